"""Whether several runs measured the same thing, so that their trials can be compared prompt by prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import NamedTuple

from harness.errors import HarnessError
from harness.records import BenchRecord, JudgeCard, RunRecord

SHOWN = 12  # hex digits of a digest: enough to tell two apart, and what other tables show


class Unlike(NamedTuple):
    """One thing that has to be the same and is not, with both values; and what the user can do."""

    what: str
    remedy: str


class Setting(NamedTuple):
    """One thing that two runs must have asked for alike."""

    name: str
    of: Callable[[BenchRecord], object]
    shown: Callable[[BenchRecord], str]
    flag: str


_SETTINGS = (
    Setting("models", lambda b: b.model_digest, lambda b: f"{b.model} ({b.model_digest[:SHOWN]})", "--model"),
    Setting("data", lambda b: b.data_digest, lambda b: f"{b.data} ({b.data_digest[:SHOWN]})", "--data"),
    Setting("columns", lambda b: b.columns, lambda b: b.columns or "by their own names", "--columns"),
    Setting("templates", lambda b: b.template, lambda b: b.template, "--template"),
    Setting("adapters", lambda b: b.adapter, lambda b: b.adapter or "none", "--adapter"),
    Setting("numbers of held-out prompts", lambda b: b.eval_prompts, lambda b: str(b.eval_prompts), "--eval-prompts"),
    Setting("length limits", lambda b: b.max_new_tokens, lambda b: f"{b.max_new_tokens} tokens", "--max-new-tokens"),
)


def refuse_unlike(runs: Mapping[str, RunRecord]) -> None:
    """HarnessError names the first two runs whose trials cannot be compared, what differs, and what to do."""
    for (a, first), (b, second) in combinations(runs.items(), 2):
        unlike = next(_differences(first, second), None)
        if unlike is not None:
            raise HarnessError(
                f"{a} and {b} cannot make one report: {unlike.what}; {unlike.remedy}, or report each by itself"
            )


def _differences(a: RunRecord, b: RunRecord) -> Iterator[Unlike]:
    """What makes a comparison by prompt meaningless, causes before what they bring about."""
    for setting in _SETTINGS:
        mine, theirs = setting.of(a.bench), setting.of(b.bench)
        if mine != theirs and None not in (mine, theirs):
            what = f"their {setting.name} differ, {setting.shown(a.bench)} and {setting.shown(b.bench)}"
            yield Unlike(what, _again(setting.flag))
    yield from _prompts(a, b)
    yield from _anchors(a, b)
    yield from _judges(a, b)


def _again(flag: str) -> str:
    return f"run one of them again with the other's {flag}"


def _prompts(a: RunRecord, b: RunRecord) -> Iterator[Unlike]:
    mine, theirs = ({prompt.prompt_id: prompt for prompt in run.prompts} for run in (a, b))
    other = [prompt_id for prompt_id in mine if mine[prompt_id] != theirs.get(prompt_id)]
    if other or len(mine) != len(theirs):
        which = f"{len(other):,} of the first's {len(mine):,} are not among the second's {len(theirs):,}"
        yield Unlike(f"their held-out prompts differ, {which}", "run one of them again with today's code")


def _anchors(a: RunRecord, b: RunRecord) -> Iterator[Unlike]:
    """Every score is against the anchor; what it wrote tells two of them apart."""
    mine, theirs = ({c.prompt_id: c.text for c in run.anchor_completions} for run in (a, b))
    differ = [prompt_id for prompt_id in {**mine, **theirs} if mine.get(prompt_id) != theirs.get(prompt_id)]
    if not differ:
        return
    what = f"their anchors differ, in what they wrote on {len(differ):,} of {len({**mine, **theirs}):,} prompts"
    first, second = budget_words(a.bench), budget_words(b.bench)
    if first != second:
        why = f"their budgets are {first} and {second}, and another budget trains another anchor"
        yield Unlike(f"{what} ({why})", _again("--budget"))
    else:
        why = f"on the same budget, {first}, so another machine, dtype or setting made them"
        yield Unlike(f"{what} ({why})", "run one of them again with the other's bench.toml")


def _judges(a: RunRecord, b: RunRecord) -> Iterator[Unlike]:
    mine = {card.name: card.description for card in a.judges}
    for card in b.judges:
        first = mine.get(card.name, card.description)
        if first != card.description:
            what = f"judge {card.name!r} is not the same in both, “{first}” and “{card.description}”"
            yield Unlike(what, _again("--judge"))


def budget_words(bench: BenchRecord) -> str:
    """The budget as asked, and what a time was turned into."""
    if bench.flops_per_second is None or bench.budget_flops is None:
        return bench.budget
    return f"{bench.budget} ({bench.budget_flops / 1e12:.3g} TFLOP)"


def notes(runs: Mapping[str, RunRecord]) -> tuple[str, ...]:
    """What differs between runs that can be compared, and how far it matters; a sentence each."""
    return (*_dtypes(runs), *_budgets(runs), *_cards(runs))


def _dtypes(runs: Mapping[str, RunRecord]) -> Iterator[str]:
    found = {name: run.bench.dtype for name, run in runs.items()}
    if len(set(found.values())) > 1:
        yield f"The runs computed in different dtypes ({_each(found)}): small differences between them may be rounding."


def _budgets(runs: Mapping[str, RunRecord]) -> Iterator[str]:
    if len({(run.bench.budget_flops, run.bench.budget_pairs) for run in runs.values()}) > 1:
        found = {name: budget_words(run.bench) for name, run in runs.items()}
        yield f"The runs had different budgets ({_each(found)}): a trial with the larger one had more to learn from."


def _cards(runs: Mapping[str, RunRecord]) -> Iterator[str]:
    """The same judge by its description, measured to be something else."""
    first: dict[str, tuple[str, JudgeCard]] = {}
    for name, run in runs.items():
        for card in run.judges:
            kept, shown = first.setdefault(card.name, (name, card))
            if card != shown:
                yield f"Judge {card.name} was measured otherwise in {name} than in {kept}, whose card is shown."


def _each(found: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in found.items())
