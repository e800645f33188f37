"""The prompts on which two trials differ most, each with both responses and what was said of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import NamedTuple

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from harness.plain import visible
from harness.records import HeldOutPrompt, RunRecord, Verdict, win_rate_by
from reports.deciding import deciding, first_judge
from reports.differing import Piece, differing
from reports.glossary import in_sentence
from reports.numbers import figure, percent
from reports.sides import Side
from reports.text import counted, one_line
from reports.trials import unit

LENGTH = 600  # characters of a question or a response

Differences = dict[str, float]  # by prompt_id, a − b


class Telling(NamedTuple):
    """A prompt, and why it is shown."""

    prompt_id: str
    why: str


def telling(run: RunRecord, a: Side, b: Side, count: int) -> tuple[Telling, ...]:
    """Up to so many prompts with unlike responses: the most extreme of each reason in turn, then by reason."""
    found: dict[str, tuple[int, Telling]] = {}
    for in_turn in zip_longest(*_reasons(run, a, b)):
        for place, one in enumerate(in_turn):
            if one is not None and one.prompt_id not in found and len(found) < count:
                found[one.prompt_id] = place, one
    return tuple(one for _, one in sorted(found.values(), key=lambda pair: pair[0]))


def _reasons(run: RunRecord, a: Side, b: Side) -> list[list[Telling]]:
    """Ahead and behind on the deciding metric, then on judged preference, then in length; the most extreme first."""
    unlike = [p.prompt_id for p in run.prompts if _unlike(a, b, p.prompt_id)]
    judge = first_judge(run)
    metrics = dict.fromkeys((deciding(run).metric, *([win_rate_by(judge.name)] if judge else [])))
    by_metric = {metric: _apart(a.per_prompt.get(metric, {}), b.per_prompt.get(metric, {})) for metric in metrics}
    longer = _apart(*({i: float(c.tokens) for i, c in side.completions.items()} for side in (a, b)))
    kinds = [*by_metric.values(), longer]
    found = []
    for metric, apart in by_metric.items():
        for side, sign in ((a, 1), (b, -1)):
            prompts = _extremes(unlike, apart, sign, kinds)
            found.append([Telling(i, f"{side.name} most ahead {_values(run, a, b, metric, i)}") for i in prompts])
    for sign in (1, -1):
        prompts = _extremes(unlike, longer, sign, kinds)
        found.append([Telling(i, f"longest change: {_lengths(a, b, i)}") for i in prompts])
    return found


def _unlike(a: Side, b: Side, prompt_id: str) -> bool:
    mine, theirs = a.completions.get(prompt_id), b.completions.get(prompt_id)
    return mine is not None and theirs is not None and mine.text != theirs.text


def _apart(mine: Differences, theirs: Differences) -> Differences:
    return {prompt_id: mine[prompt_id] - theirs[prompt_id] for prompt_id in mine if prompt_id in theirs}


def _extremes(prompts: list[str], apart: Differences, sign: int, kinds: list[Differences]) -> list[str]:
    """Prompts with a difference of this sign, the largest first; of equal ones, those that differ more otherwise."""
    there = [prompt_id for prompt_id in prompts if sign * apart.get(prompt_id, 0.0) > 0]
    return sorted(there, key=lambda i: (-abs(apart[i]), *(-abs(kind.get(i, 0.0)) for kind in kinds)))


def _values(run: RunRecord, a: Side, b: Side, metric: str, prompt_id: str) -> str:
    values = (figure(side.per_prompt[metric][prompt_id], unit(run, metric)) for side in (a, b))
    return f"on {in_sentence(metric)}: {' against '.join(values)}"


def _lengths(a: Side, b: Side, prompt_id: str) -> str:
    return " against ".join(counted(side.completions[prompt_id].tokens, "token") for side in (a, b))


def print_samples(run: RunRecord, sides: tuple[Side, Side], console: Console, count: int) -> None:
    """Print so many of the most telling prompts, or that there are none."""
    chosen = telling(run, *sides, count)
    console.print()
    if not chosen:
        console.print(Text("No prompt has unlike responses of both, so there is none to show."))
        return
    console.print(
        Text(
            f"{counted(len(chosen), 'telling prompt')}, A before B. «…» marks what the other did not write; "
            "a verdict is the chance that the response beats the anchor's, where it is shown first and second."
        )
    )
    prompts = {prompt.prompt_id: prompt for prompt in run.prompts}
    for place, one in enumerate(chosen, 1):
        console.print()
        console.print(Text(visible(f"{place}. {one.why}"), style="bold"))
        _print_sample(run, sides, prompts[one.prompt_id], console)


def _print_sample(run: RunRecord, sides: tuple[Side, Side], prompt: HeldOutPrompt, console: Console) -> None:
    """The question, the right answer where it is known, then both responses under what was said of them."""
    console.print(_indented(Text(f"Question: {one_line(prompt.question, LENGTH)}"), 3))
    if prompt.gold is not None:
        console.print(_indented(Text(f"Right answer: {one_line(' or '.join(prompt.gold.answers), LENGTH)}"), 3))
    texts = [side.completions[prompt.prompt_id].text for side in sides]
    pieces = differing(*(text[:LENGTH] for text in texts))
    for letter, side, text, written in zip("AB", sides, texts, pieces, strict=True):
        said = "; ".join(_said(run, side, prompt.prompt_id))
        console.print(_indented(Text(visible(f"{letter} {side.name}: {said}"), style="italic"), 3))
        console.print(_indented(_marked(written, len(text) - LENGTH), 5))


def _indented(text: Text, by: int) -> Padding:
    return Padding(text, (0, 0, 0, by), expand=False)


def _marked(pieces: list[Piece], left_out: int) -> Text:
    """The response on one line, its own words between marks; says how much was cut off."""
    if not pieces:
        return Text("(nothing)", style="dim")
    text = Text()
    for piece in pieces:
        text.append(" " if text else "")
        words = visible(piece.text)
        text.append(f"«{words}»" if piece.differs else words, style="bold" if piece.differs else "")
    return text.append(f" … ({left_out:,} more characters)", style="dim") if left_out > 0 else text


def _said(run: RunRecord, side: Side, prompt_id: str) -> Iterator[str]:
    """Whether it is correct, what the data's check says, each judge's verdict in both orders, and its length."""
    correct = side.per_prompt.get("correct", {}).get(prompt_id)
    if correct is not None:
        yield "correct" if correct else "wrong"
    won = side.per_prompt.get("gold_win_rate", {}).get(prompt_id)
    if won is not None and side.trial is not None:
        yield f"the data's check: {'win' if won > 0.5 else 'loss' if won < 0.5 else 'tie'}"
    for card in run.judges:
        verdict = side.verdicts.get((card.name, prompt_id))
        if verdict is not None:
            yield f"{card.name}: {_verdict(verdict)}"
    written = side.completions[prompt_id]
    yield f"{counted(written.tokens, 'token')}{', cut at the limit' if written.truncated else ''}"


def _verdict(verdict: Verdict) -> str:
    if verdict.p_first is None or verdict.p_second is None:
        return f"no readable verdict{f' ({one_line(verdict.problem, 120)})' if verdict.problem else ''}"
    return f"{percent(verdict.p_first)}% first, {percent(verdict.p_second)}% second"
