"""Two trials side by side in the terminal: the finding first, every difference, the responses that tell."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import pytest
from rich.console import Console

from evals.comparison import compare_two
from harness.errors import HarnessError
from harness.records import Completion, RunRecord, TrialRecord, Verdict, win_rate_by
from reports.comparing import print_two
from reports.finding import finding
from reports.sides import recorded, two_sides
from reports.telling import telling
from tests.reports.conftest import Loaded
from tests.reports.fake_run import CORE, Character, FakeRun
from tests.reports.hostile import HOSTILE, MEGABYTE

SFT, LOW, HIGH = CORE[:3]  # gold win rates 54%, 69% and 72%; told apart from 15 points on
PLAIN = FakeRun(characters=CORE[:3])
NO_GOLD = FakeRun(characters=tuple(dataclasses.replace(c, gold=None, correct_change=None) for c in CORE[:3]))


def found_in(run: RunRecord, a: str, b: str) -> str:
    sides = two_sides(run, a, b)
    first, second = sides
    pairs = compare_two(a, b, first.per_prompt, second.per_prompt, recorded(run, *sides))
    return " ".join(finding(run, sides, pairs))


def shown(run: RunRecord, a: str, b: str, width: int = 120, samples: int = 10) -> str:
    out = io.StringIO()
    sides = two_sides(run, a, b)
    first, second = sides
    pairs = compare_two(first.name, second.name, first.per_prompt, second.per_prompt, recorded(run, *sides))
    print_two(run, sides, pairs, Console(file=out, width=width), samples)
    return out.getvalue()


def changed(run: RunRecord, recipe: str, **changes: Any) -> RunRecord:
    """The run with one trial's parts replaced; `per_prompt` goes over what it has."""
    trials = []
    for trial in run.trials:
        if trial.recipe == recipe:
            parts = dict(changes)
            per_prompt = {**trial.scores.per_prompt, **parts.pop("per_prompt", {})}
            scores = dataclasses.replace(trial.scores, per_prompt=per_prompt)
            trial = dataclasses.replace(trial, scores=scores, **parts)
        trials.append(trial)
    return dataclasses.replace(run, trials=tuple(trials))


def trial_of(run: RunRecord, recipe: str) -> TrialRecord:
    return next(trial for trial in run.trials if trial.recipe == recipe)


def completions(run: RunRecord, *texts: str) -> tuple[Completion, ...]:
    """These texts for the first prompts, a token a word."""
    return tuple(
        Completion(prompt_id=prompt.prompt_id, text=text, tokens=len(text.split()), truncated=False)
        for prompt, text in zip(run.prompts, texts, strict=False)
    )


@pytest.mark.parametrize(("a", "b"), [("sft", HIGH.recipe), (HIGH.recipe, "sft")])
def test_the_better_one_is_named_first_however_they_are_given(loaded: Loaded, a: str, b: str) -> None:
    text = found_in(loaded(PLAIN), a, b)
    assert text.startswith(f"{HIGH.recipe} is better than sft on gold win rate: ")
    assert "+18 points (95% interval +4 to +31), p = 0.004 after Holm's correction over all pairs" in text


def test_what_cannot_be_told_apart_says_how_many_prompts_would(loaded: Loaded) -> None:
    """15 points detectable on 128 prompts, 3 observed: 25 times as many."""
    text = found_in(loaded(PLAIN), LOW.recipe, HIGH.recipe)
    assert f"{LOW.recipe} and {HIGH.recipe} cannot be told apart on gold win rate" in text
    assert "about 3,200 prompts would be needed" in text


def test_no_number_of_prompts_tells_apart_what_is_level(loaded: Loaded) -> None:
    run = loaded(FakeRun(characters=(LOW, dataclasses.replace(LOW, recipe="twin"))))
    assert "exactly level" in found_in(run, LOW.recipe, "twin")


def test_a_difference_that_needs_a_world_of_prompts_is_not_counted_out(loaded: Loaded) -> None:
    run = loaded(FakeRun(characters=(LOW, dataclasses.replace(LOW, recipe="twin", gold=0.69001))))
    assert "more than 1,000,000 prompts" in found_in(run, LOW.recipe, "twin")


def test_a_p_that_the_run_did_not_correct_is_called_so(loaded: Loaded) -> None:
    run = dataclasses.replace(loaded(PLAIN), comparisons=())
    assert "uncorrected" in found_in(run, "sft", HIGH.recipe)


def test_a_win_by_style_is_said_to_be_one(loaded: Loaded) -> None:
    """As in the report's own answer."""
    long = dataclasses.replace(HIGH, length_ratio=1.5, correct_change=0.0)
    text = found_in(loaded(FakeRun(characters=(SFT, long))), "sft", HIGH.recipe)
    assert "But its responses are 50% longer" in text
    assert "read that as style, not substance" in text


def test_style_is_not_held_against_what_is_not_called_better(loaded: Loaded) -> None:
    long = dataclasses.replace(HIGH, length_ratio=1.5, correct_change=0.0)
    assert "style" not in found_in(loaded(FakeRun(characters=(LOW, long))), LOW.recipe, HIGH.recipe)


@pytest.mark.parametrize(
    ("fake", "words"),
    [
        (PLAIN, "The data's own check decides"),
        (NO_GOLD, "Judge probe decides, which ranks 89% (86% to 92%) of labelled pairs rightly"),
    ],
)
def test_it_says_what_decides(loaded: Loaded, fake: FakeRun, words: str) -> None:
    assert words in found_in(loaded(fake), "sft", HIGH.recipe)


def test_without_a_believable_win_rate_reward_accuracy_decides_and_that_is_said(loaded: Loaded) -> None:
    run = loaded(dataclasses.replace(NO_GOLD, qualified=False))
    for name, value in (("sft", 0.0), (HIGH.recipe, 1.0)):
        run = changed(run, name, per_prompt={"reward_accuracy": {p.prompt_id: value for p in run.prompts}})
    text = found_in(run, "sft", HIGH.recipe)
    assert f"{HIGH.recipe} is better than sft on reward accuracy" in text
    assert "how log-probs moved, not how responses read" in text


def test_a_run_that_kept_no_values_by_prompt_says_so(loaded: Loaded) -> None:
    """And still shows what both wrote."""
    text = shown(loaded(dataclasses.replace(NO_GOLD, judges=())), "sft", HIGH.recipe)
    assert f"Which of sft and {HIGH.recipe} is better cannot be said" in text
    assert "Question: " in text


def test_the_anchor_can_be_one_of_the_two(loaded: Loaded) -> None:
    """It wins half against itself."""
    text = shown(loaded(PLAIN), "anchor", HIGH.recipe)
    assert "A: anchor   B: dpo-beta0.1" in text
    row = next(line for line in text.splitlines() if line.startswith("Gold win rate"))
    assert row.split()[3] == "50%"


def test_a_trial_is_found_by_its_name_with_the_seed_too(loaded: Loaded) -> None:
    assert two_sides(loaded(PLAIN), "sft@1", HIGH.recipe)[0].name == "sft"


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ("dpo-0.1", "sft", "no trial 'dpo-0.1': did you mean 'dpo-beta0.1'?"),
        ("nothing", "sft", "no trial 'nothing': this run has anchor, sft, dpo-beta0.05 and dpo-beta0.1"),
        ("sft", "sft@1", "'sft' and 'sft@1' are the same trial"),
        ("anchor", "anchor", "are the same trial"),
        ("ipo@1", "sft", "trial 'ipo@1' failed, so it has no scores: out of memory"),
        ("kto@1", "sft", "trial 'kto@1' is not finished: run the same command again"),
    ],
)
def test_a_wrong_name_is_one_line(loaded: Loaded, a: str, b: str, words: str) -> None:
    run = loaded(dataclasses.replace(PLAIN, failed={"ipo@1": "out of\nmemory"}, unfinished=("kto@1",)))
    with pytest.raises(HarnessError) as refusal:
        two_sides(run, a, b)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_no_line_is_wider_than_the_window(loaded: Loaded, width: int) -> None:
    assert max(map(len, shown(loaded(PLAIN), "sft", HIGH.recipe, width).splitlines())) <= width


@pytest.mark.parametrize(
    ("width", "there", "left_out"),
    [(40, ("A − B", "p, Holm"), ("n", "McNemar")), (80, ("A", "B", "p"), ("McNemar",)), (120, ("McNemar", "n"), ())],
)
def test_a_narrow_window_keeps_what_matters_and_says_what_it_left_out(
    loaded: Loaded, width: int, there: tuple[str, ...], left_out: tuple[str, ...]
) -> None:
    text = " ".join(shown(loaded(PLAIN), "sft", HIGH.recipe, width, samples=0).split())
    head = text[text.index("Metric") : text.index("──")]
    assert all(f" {title} " in head for title in there)
    assert not any(f" {title} " in head for title in left_out)
    assert ("A wider window shows more" in text) == bool(left_out)


def test_what_is_told_apart_is_marked_by_a_sign(loaded: Loaded) -> None:
    """Not by its colour or weight alone."""
    text = shown(loaded(PLAIN), "sft", HIGH.recipe, samples=0)
    assert "−18 points ▼" in text
    assert "+18 points ▲" in shown(loaded(PLAIN), HIGH.recipe, "sft", samples=0)


def test_metrics_that_the_run_did_not_test_have_no_corrected_p(loaded: Loaded) -> None:
    run = loaded(PLAIN)
    for name, add in (("sft", 1.0), (HIGH.recipe, 3.0)):
        lengths = {p.prompt_id: i % 7 + add for i, p in enumerate(run.prompts)}
        run = changed(run, name, per_prompt={"length_tokens": lengths})
    rows = [line.split() for line in shown(run, "sft", HIGH.recipe, samples=0).splitlines()]
    row = next(row for row in rows if row[:1] == ["Length,"])
    assert row[2:] == ["3.96", "5.96", "−2.00", "tokens", "<0.001", "—", "128", "—", "—"]


def told(run: RunRecord, count: int, a: str = "sft", b: str = HIGH.recipe) -> list[tuple[str, str]]:
    return [(one.prompt_id, one.why) for one in telling(run, *two_sides(run, a, b), count)]


@pytest.fixture
def contrasted(loaded: Loaded) -> RunRecord:
    """Two trials on six prompts: the truth parts them on two, judge and length on others, the last is equal."""
    run = loaded(FakeRun(characters=(SFT, HIGH), prompts=6))
    ids = [prompt.prompt_id for prompt in run.prompts]
    for name, texts, gold, judged in (
        ("sft", ("yes", "no", "a b", "c", "a b c d", "same"), (1, 0, 0.5, 0.5, 0.5, 0.5), (0.5, 0.5, 0.9, 0.5, 0.5, 1)),
        (HIGH.recipe, ("no", "yes", "b a", "d", "a", "same"), (0, 1, 0.5, 0.5, 0.5, 0.5), (0.5, 0.5, 0.2, 0.5, 0.5, 0)),
    ):
        per_prompt = {
            "gold_win_rate": dict(zip(ids, map(float, gold), strict=True)),
            win_rate_by("probe"): dict(zip(ids, judged, strict=True)),
        }
        run = changed(run, name, completions=completions(run, *texts), per_prompt=per_prompt)
    return run


def test_the_most_telling_come_in_the_order_of_what_they_tell(contrasted: RunRecord) -> None:
    """Both directions of the deciding metric, then judged preference, then length; equal responses tell nothing."""
    ids = [prompt.prompt_id for prompt in contrasted.prompts]
    assert told(contrasted, 10) == [
        (ids[0], "sft most ahead on gold win rate: 100% against 0%"),
        (ids[1], "dpo-beta0.1 most ahead on gold win rate: 0% against 100%"),
        (ids[2], "sft most ahead on win rate by probe: 90% against 20%"),
        (ids[4], "longest change: 4 tokens against 1 token"),
    ]


def test_few_samples_still_show_both_directions(contrasted: RunRecord) -> None:
    ids = [prompt.prompt_id for prompt in contrasted.prompts]
    assert [prompt for prompt, _ in told(contrasted, 2)] == ids[:2]


def test_the_most_extreme_of_each_reason_comes_first(loaded: Loaded) -> None:
    """Of equal ones, that on which the judge differs more."""
    run = loaded(FakeRun(characters=(SFT, HIGH), prompts=3))
    ids = [prompt.prompt_id for prompt in run.prompts]
    for name, gold, judged in (("sft", (0.5, 1.0, 1.0), (0.5, 0.6, 0.9)), (HIGH.recipe, (0.0, 0.0, 0.0), (0.5,) * 3)):
        texts = completions(run, *([f"{name} wrote"] * 3))
        by_judge = dict(zip(ids, judged, strict=True))
        per_prompt = {"gold_win_rate": dict(zip(ids, gold, strict=True)), win_rate_by("probe"): by_judge}
        run = changed(run, name, completions=texts, per_prompt=per_prompt)
    assert told(run, 1) == [(ids[2], "sft most ahead on gold win rate: 100% against 0%")]


def test_as_many_samples_as_asked_for_and_no_prompt_twice(loaded: Loaded) -> None:
    prompts = [prompt for prompt, _ in told(loaded(PLAIN), 10)]
    assert len(prompts) == len(set(prompts)) == 10


def test_no_samples_where_none_are_asked_for(loaded: Loaded) -> None:
    assert "Question" not in shown(loaded(PLAIN), "sft", HIGH.recipe, samples=0)


def test_two_that_wrote_the_same_have_nothing_to_show(loaded: Loaded) -> None:
    run = loaded(FakeRun(characters=(dataclasses.replace(SFT, text="So."), dataclasses.replace(HIGH, text="So."))))
    assert "there is none to show" in shown(run, "sft", HIGH.recipe)


def test_a_sample_shows_all_that_is_known_of_both_responses(contrasted: RunRecord) -> None:
    first = contrasted.prompts[0].prompt_id
    said = Verdict(judge="probe", prompt_id=first, p_first=0.81, p_second=0.62)
    run = changed(contrasted, "sft", verdicts=(said,), per_prompt={"correct": {first: 1.0}})
    mute = dataclasses.replace(said, p_first=None, problem="no letter")
    run = changed(run, HIGH.recipe, verdicts=(mute,), per_prompt={"correct": {first: 0.0}})
    lines = [line.strip() for line in shown(run, "sft", HIGH.recipe, samples=1).splitlines()]
    start = lines.index("1. sft most ahead on gold win rate: 100% against 0%")
    assert lines[start + 1 :] == [
        "Question: Could you convert 3 kilometres to metres for me?",
        "Right answer: 3000",
        "A sft: correct; the data's check: win; probe: 81% first, 62% second; 1 token",
        "«yes»",
        "B dpo-beta0.1: wrong; the data's check: loss; probe: no readable verdict (no letter); 1 token",
        "«no»",
    ]


@pytest.mark.parametrize("text", [*HOSTILE, "[bold red]x[/]", MEGABYTE])
def test_what_a_model_wrote_is_shown_as_text_on_lines_that_fit(loaded: Loaded, text: str) -> None:
    """Neither Rich's markup nor a terminal's codes nor a text without end."""
    hostile = dataclasses.replace(SFT, text=text)
    found = shown(loaded(FakeRun(characters=(hostile, HIGH), questions={0: text})), "sft", HIGH.recipe, 80, samples=3)
    assert "\x1b" not in found
    assert "\u202e" not in found
    assert len(found) < 20_000
    assert max(map(len, found.splitlines())) <= 80
    assert all(word in " ".join(found.split()) for word in ([text] if text.startswith("[bold") else []))


def test_a_long_response_says_how_much_was_left_out(loaded: Loaded) -> None:
    run = loaded(FakeRun(characters=(dataclasses.replace(SFT, text=MEGABYTE), HIGH)))
    assert "(999,400 more characters)" in " ".join(shown(run, "sft", HIGH.recipe, samples=1).split())


def test_rich_markup_in_a_name_is_text(loaded: Loaded) -> None:
    run = loaded(FakeRun(characters=(Character(recipe="[bold]x"), HIGH)))
    assert "A: [bold]x   B: dpo-beta0.1" in shown(run, "[bold]x", HIGH.recipe)
