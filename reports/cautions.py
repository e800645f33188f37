"""What a reader must know before believing a number: one sentence each, from records and thresholds alone.

Nothing measured in seconds or bytes is here, so that a repeated run gives the same sentences: see `timing`.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.records import RunRecord, Score, win_rate_by
from reports.gaming import hollow_wins, short_signs, short_win
from reports.glossary import in_sentence
from reports.numbers import figure, flops, percent, phrase
from reports.text import counted, listed, one_line
from reports.trials import by_recipe, display_name, failings, score
from reports.wins import too_weak

# Beyond one response in ten cut off, length, correctness and KL speak of the limit as much as of the policy.
CUT_OFF = 0.1
# A fifth of a response's 4-grams seen before in it reads as looping.
REPETITIVE = 0.2
# Both KL estimates are unbiased, one of them noisy: further apart than this, one of them is wrong.
STANDARD_ERRORS = 3.0
# A 95% interval is about this many standard errors to each side.
HALF_WIDTH = 1.96
# Fewer than these leave a schedule of warm-up and decay hardly a step at its top.
FEW_STEPS = 10
# A win rate that says nothing.
EVEN = 0.5
# What the last, smaller batch may leave unspent.
UNSPENT = 0.01


def warnings(run: RunRecord) -> tuple[str, ...]:
    """Every warning of the run, the gravest first."""
    whole = by_recipe(run)
    return (
        *_missing(run),
        *map(one_line, run.bench.run_notes),
        *_judges(run),
        *_gamed(whole),
        *_by_length(whole),
        *_against_truth(whole),
        *_too_weak(whole),
        *_unscored(run),
        *_displaced(whole),
        *_degenerate(whole),
        *_cut_off(whole),
        *_kl_check(whole),
        *_budget(run),
        *_few_steps(run),
        *_model(run),
        *_data(run),
    )


def _missing(run: RunRecord) -> Iterator[str]:
    for name, why in run.bench.failed.items():
        yield f"{one_line(name, 80)} failed and is left out: {one_line(why)}"
    for name in run.unfinished:
        left_out = f"{one_line(name, 80)} is not finished and is left out"
        yield f"{left_out}: run the same command again to continue it."


def _judges(run: RunRecord) -> Iterator[str]:
    for card in run.judges:
        if not card.qualified:
            yield f"Judge {card.name} is not qualified, so its win rates decide nothing: {failings(card)}."


def _gamed(run: RunRecord) -> Iterator[str]:
    """Grouped by their signs, for most often many trials share them."""
    winners: dict[str, list[str]] = {}
    for win in hollow_wins(run):
        winners.setdefault(short_signs(win), []).append(f"{display_name(run, win.trial)} ({short_win(win)})")
    if winners:
        found = "; ".join(f"{signs} in {listed(names)}" for signs, names in winners.items())
        yield f"Signs of winning by style, with the win rates: {found}."


def _against_truth(run: RunRecord) -> Iterator[str]:
    for card in run.judges:
        apart = []
        for trial in run.trials:
            judged, gold = score(trial, win_rate_by(card.name)), score(trial, "gold_win_rate")
            if judged and gold and not _overlap(judged, gold):
                apart.append(f"{display_name(run, trial)} ({percent(judged.value)}%, not {percent(gold.value)}%)")
        if apart:
            yield f"Judge {card.name} and the data's own check disagree on the win rates: {listed(apart)}."


def _by_length(run: RunRecord) -> Iterator[str]:
    """Wins that are none at equal length."""
    kinds = {"gold_win_rate": "gold_win_rate_controlled"}
    kinds |= {win_rate_by(card.name): win_rate_by(card.name, "controlled") for card in run.judges}
    for metric, at_equal_length in kinds.items():
        gone = [
            f"{display_name(run, trial)} ({percent(raw.value)}%, at equal length {phrase(controlled)})"
            for trial in run.trials
            if (raw := score(trial, metric)) and (controlled := score(trial, at_equal_length))
            if raw.low > EVEN >= controlled.low
        ]
        if gone:
            yield f"Wins that length explains, by {in_sentence(metric)}: {listed(gone)}."


def _too_weak(run: RunRecord) -> Iterator[str]:
    for card in run.judges:
        trial = too_weak(run, card)
        found = score(trial, win_rate_by(card.name, "corrected")) if trial else None
        if trial and found:
            yield (
                f"Judge {card.name} is too weak to be corrected for: with its errors taken out, the win rate of "
                f"{display_name(run, trial)} lies anywhere from {percent(found.low)}% to {percent(found.high)}%."
            )


def _overlap(a: Score, b: Score) -> bool:
    return a.low <= b.high and b.low <= a.high


def _unscored(run: RunRecord) -> Iterator[str]:
    for card in run.judges:
        asked = [v for trial in run.trials for v in trial.verdicts if v.judge == card.name]
        lost = [v for v in asked if v.p_win is None]
        if lost:
            why = f" (the first: {one_line(lost[0].problem, 120)})" if lost[0].problem else ""
            none = f"Judge {card.name} gave no readable verdict on {len(lost):,} of {len(asked):,} prompts{why}"
            yield f"{none}; they are in no win rate, and in no denominator."
        if card.unscored:
            pairs = counted(card.unscored, "pair")
            yield f"Judge {card.name} gave no readable verdict on {pairs} of its own qualification."


def _displaced(run: RunRecord) -> Iterator[str]:
    """Likelihood displacement (arXiv:2410.08847): the margin grows while the chosen response sinks."""
    sunk = []
    for trial in run.trials:
        shift, margin = score(trial, "chosen_shift_nats"), score(trial, "reward_margin_nats")
        if shift and margin and shift.high < 0 < margin.value:
            sunk.append(f"{display_name(run, trial)} ({figure(shift.value, shift.unit)})")
    if sunk:
        yield (
            "Likelihood displacement: the margin grew while the chosen responses became less likely than under the "
            f"anchor, by so many nats: {listed(sunk)}."
        )


def _degenerate(run: RunRecord) -> Iterator[str]:
    for trial in run.trials:
        repeated = score(trial, "repetition")
        before = run.anchor_scores.scores.get("repetition") if run.anchor_scores else None
        if repeated and repeated.value > REPETITIVE and (before is None or repeated.low > before.value):
            yield f"{display_name(run, trial)} repeats itself: {phrase(repeated)} of its 4-grams are repeats."
        if trial.completions and all(not completion.text.strip() for completion in trial.completions):
            yield f"{display_name(run, trial)} has collapsed: every response is empty."


def _cut_off(run: RunRecord) -> Iterator[str]:
    """Grouped by cause, for most often all trials share it."""
    for metric, what in (
        ("truncated", "responses were cut at the length limit: correctness and length speak of the cut text"),
        (
            "samples_truncated",
            "samples behind KL were cut at the length limit: it is the KL of the cut process",
        ),
    ):
        cut = [(t, s) for t in run.trials if (s := score(t, metric)) is not None and s.value > CUT_OFF]
        if cut:
            shares = listed([f"{percent(s.value)}% for {display_name(run, t)}" for t, s in cut])
            yield f"Over {percent(CUT_OFF)}% of {what} ({shares})."


def _kl_check(run: RunRecord) -> Iterator[str]:
    for trial in run.trials:
        kl, check = score(trial, "kl_nats"), score(trial, "k1_nats")
        if not kl or not check:
            continue
        error = (check.high - check.low) / (2 * HALF_WIDTH)
        if abs(check.value - kl.value) > STANDARD_ERRORS * error:
            both = f"{phrase(kl)} and {phrase(check)}"
            yield (
                f"The two KL estimates of {display_name(run, trial)} disagree by more than "
                f"{STANDARD_ERRORS:.0f} standard errors: {both}; do not rely on either."
            )


def _budget(run: RunRecord) -> Iterator[str]:
    spent = [(trial, trial.ledger.flops) for trial in run.trials]
    if run.bench.budget_pairs is not None and spent:
        low, high = min(f for _, f in spent), max(f for _, f in spent)
        if high > low:
            yield (
                "The budget is counted in pairs, so the trials did not spend the same: "
                f"{flops(low)} to {flops(high)}. A recipe that costs more per pair has been given more."
            )
        return
    for trial, used in spent:
        budget = trial.ledger.budget_flops
        if budget and abs(used / budget - 1) > UNSPENT:
            yield f"{display_name(run, trial)} spent {flops(used)} of a budget of {flops(budget)}."


def _few_steps(run: RunRecord) -> Iterator[str]:
    last = [trial.ledger.stages[-1] for trial in run.trials]
    if last and min(stage.steps for stage in last) < FEW_STEPS:
        steps, pairs = [stage.steps for stage in last], [stage.pairs for stage in last]
        yield (
            f"Few steps: the recipes' last stages took {_range(steps)} steps on {_range(pairs)} of "
            f"{run.bench.rows['train']:,} training pairs. With a larger budget they may rank otherwise."
        )


def _range(counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _data(run: RunRecord) -> Iterator[str]:
    for note in run.bench.data_notes:
        yield f"{one_line(run.bench.data, 80)}: {one_line(note)}"


def _model(run: RunRecord) -> Iterator[str]:
    if run.bench.model_note:
        yield (
            f"{one_line(run.bench.model, 80)} is a {one_line(run.bench.model_note)}: what is compared is "
            "further tuning of it, and another model may rank the recipes otherwise."
        )
