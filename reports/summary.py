"""The answer in a few plain sentences, each made from a test or an interval and from nothing else."""

from __future__ import annotations

from harness.records import Comparison, RunRecord, Score, TrialRecord
from reports.deciding import Deciding, deciding, ranked
from reports.gaming import HollowWin, hollow_wins, short_signs, signs, win_words
from reports.numbers import phrase
from reports.text import counted, listed, one_line
from reports.trials import by_recipe, comparison, display_name, score, told_apart, unit

EVEN = 0.5  # a win rate, or a reward accuracy, that says nothing
LEAST_WORTH = 0.01  # a smaller difference of shares is nobody's reason to gather more data
MOST_PROMPTS = 20_000  # nor is one that takes more than this
MANY = 6  # names that a sentence bears


def answer(run: RunRecord) -> tuple[str, ...]:
    """Which recipe, which others it can be told from, at what cost, how sure; whether a win is style."""
    whole = by_recipe(run)
    choice = deciding(whole)
    standing = ranked(whole, choice.metric)
    if not standing:
        return (_nothing(run),)
    sentences = (
        _basis(whole, choice),
        _first(whole, choice),
        _style(whole, choice),
        _rivals(whole, choice.metric),
        _cheaper(whole, choice.metric),
        _more(whole, choice.metric),
        _reach(run, standing),
    )
    return tuple(sentence for sentence in sentences if sentence)


def _nothing(run: RunRecord) -> str:
    why = ": see the warnings" if run.bench.failed else "; run the same command again to continue"
    return f"No trial finished, so there is nothing to compare{why}."


def _basis(run: RunRecord, choice: Deciding) -> str:
    """Said only where no win rate can be believed."""
    if choice.by_win_rate:
        return ""
    rest = (
        "so this rests on reward accuracy: whether a checkpoint learned to prefer the chosen response, "
        "not whether it writes better ones"
    )
    if not run.judges:
        return f"No judge was asked and the data has no checker, {rest}."
    if any(card.qualified for card in run.judges):
        return f"No qualified judge scored every trial, {rest}."
    names = listed([card.name for card in run.judges])
    verb = "is not a qualified judge" if len(run.judges) == 1 else "are not qualified judges"
    return f"{names} {verb}, {rest}."


def _first(run: RunRecord, choice: Deciding) -> str:
    """The best trial, its score with the interval, what it was measured on, and its KL."""
    standing = ranked(run, choice.metric)
    trial, best = standing[0]
    level = [display_name(run, t) for t, s in standing if s.value == best.value]
    measured = f"{_measured(choice, best)}{_distance(trial)}"
    if not _beats_even(run, choice.metric, trial):
        with_it = f" (and {counted(len(level) - 1, 'other')} level with it)" if len(level) > 1 else ""
        return f"{_no_gain(run, choice, standing)} The highest, {level[0]}{with_it}, {measured}{_why_not(best)}."
    if len(level) > 1:
        return f"{listed(_few(level))} come out level at the top: each {measured}."
    return f"{level[0]} {_place(run, choice.metric)}: it {measured}."


def _place(run: RunRecord, metric: str) -> str:
    """Called best only where every other one is shown to be worse, and its win is not by style."""
    first, *others = (display_name(run, trial) for trial, _ in ranked(run, metric))
    if not others:
        return "is the only recipe scored"
    hollow = {display_name(run, win.trial) for win in _empty_wins(run)}
    best = first not in hollow and all(told_apart(comparison(run, first, other, metric)) for other in others)
    return "is best" if best else "scores highest"


def _beats_even(run: RunRecord, metric: str, trial: TrialRecord) -> bool:
    """Above one half by its interval, and by the test against the anchor where there is one."""
    best, tested = score(trial, metric), comparison(run, display_name(run, trial), "anchor", metric)
    return best is not None and best.low > EVEN and (tested is None or told_apart(tested))


def _why_not(best: Score) -> str:
    if best.high < EVEN:
        return ""
    return "; that interval includes 50%" if best.low <= EVEN else "; the test against the anchor is not passed"


def _no_gain(run: RunRecord, choice: Deciding, standing: tuple[tuple[TrialRecord, Score], ...]) -> str:
    if all(s.high < EVEN for _, s in standing):
        worse = "loses to the anchor" if choice.by_win_rate else "tells chosen from rejected worse than chance"
        return f"Every recipe {worse}."
    better = "beat the anchor" if choice.by_win_rate else "tell chosen from rejected better than chance"
    if any(_beats_even(run, choice.metric, trial) for trial, _ in standing):
        return f"The recipe that comes out highest is not shown to {better}."
    return f"No recipe is shown to {better}."


def _measured(choice: Deciding, best: Score) -> str:
    if not choice.by_win_rate:
        prompts = counted(best.n, "held-out prompt")
        return f"moved towards the chosen response, away from the rejected, in {phrase(best)} of the pairs of {prompts}"
    prompts = counted(best.n, "held-out prompt")
    against = f"wins {phrase(best)} of {prompts} against the anchor (the shared SFT checkpoint)"
    if choice.judge is None:
        return f"{against}, by the data's own check (correctness first, then courtesy)"
    accuracy = choice.judge.accuracy
    return f"{against}, by judge {choice.judge.name}, which ranks {phrase(accuracy)} of labelled pairs rightly"


def _distance(trial: TrialRecord) -> str:
    kl = score(trial, "kl_nats")
    return f", at a KL of {phrase(kl)} from the anchor" if kl is not None else ""


def _rivals(run: RunRecord, metric: str) -> str:
    """Against which of the others the best one can, and cannot, be told apart."""
    names = [display_name(run, trial) for trial, _ in ranked(run, metric)]
    best, others = names[0], names[1:]
    if not others:
        return ""
    known = {name: c for name in others if (c := comparison(run, best, name, metric)) is not None}
    if not known:
        return "Nothing was compared prompt by prompt, so no difference between the recipes is established."
    beaten = [name for name in known if told_apart(known[name])]
    level = [name for name in others if name not in beaten]
    if not beaten and not _any_pair(run, metric):
        every = f"No two of the {len(names)}" if len(names) > 2 else "Neither of the two"
        apart = "apart" if len(names) > 2 else "from the other"
        return f"{every} recipes can be told {apart}.{_too_small(run, metric, list(known.values()))}"
    return _told(best, beaten, level) + _too_small(run, metric, [known[name] for name in level if name in known])


def _too_small(run: RunRecord, metric: str, level: list[Comparison]) -> str:
    """Which differences this run was too small to show, where it showed none."""
    if not level:
        return ""
    size = max(c.detectable for c in level)
    shown = f"{100 * size:.0f} points" if unit(run, metric) == "share" else f"{size:.2g} {unit(run, metric)}"
    return f" A difference under {shown} was too small for this run to show reliably."


def _more(run: RunRecord, metric: str) -> str:
    """How many prompts would tell the best from its closest rival, if the difference is what was seen."""
    names = [display_name(run, trial) for trial, _ in ranked(run, metric)]
    known = [c for name in names[1:] if (c := comparison(run, names[0], name, metric)) is not None]
    open_ones = [c for c in known if not told_apart(c) and c.difference > 0]
    if not open_ones:
        return ""
    nearest = max(open_ones, key=lambda c: c.difference / c.detectable)
    wanted = nearest.n * (nearest.detectable / nearest.difference) ** 2
    if wanted > MOST_PROMPTS or (unit(run, metric) == "share" and nearest.difference < LEAST_WORTH):
        return ""
    seen = f"{100 * nearest.difference:.0f} points" if unit(run, metric) == "share" else f"{nearest.difference:.2g}"
    seeds = ", or more seeds," if nearest.seeds > 1 else ""
    return (
        f"If {nearest.a} is truly {seen} better than {nearest.b}, as it was here, about "
        f"{round(wanted, -2 if wanted >= 1000 else -1):,.0f} prompts{seeds} would show it."
    )


def _any_pair(run: RunRecord, metric: str) -> bool:
    return any(told_apart(c) for c in run.comparisons if c.metric == metric and "anchor" not in (c.a, c.b))


def _told(best: str, beaten: list[str], level: list[str]) -> str:
    parts = []
    if beaten:
        parts.append(f"is better than {listed(_few(beaten))} (p < 0.05 after Holm's correction)")
    if level:
        others = f"any of the other {len(level)}" if len(level) > 2 and not beaten else listed(_few(level), "or")
        parts.append(f"cannot be told apart from {others}")
    return f"{best} {' and '.join(parts)}."


def _few(names: list[str]) -> list[str]:
    """No more names than a sentence bears."""
    return names if len(names) <= MANY else [*names[: MANY - 1], f"{len(names) - MANY + 1} others"]


def _cheaper(run: RunRecord, metric: str) -> str:
    """The rival that beats the anchor as well, as far as the tests can tell, at a KL shown to be lower."""
    standing = [trial for trial, _ in ranked(run, metric)]
    best = display_name(run, standing[0])
    others = [display_name(run, trial) for trial in standing[1:] if _beats_even(run, metric, trial)]
    rivals = []
    for name in others:
        same, nearer = comparison(run, best, name, metric), comparison(run, name, best, "kl_nats")
        if same and nearer and not told_apart(same) and told_apart(nearer) and nearer.difference < 0:
            rivals.append((nearer.difference, name))
    if not rivals:
        return ""
    difference, name = min(rivals)
    saved = f"{abs(difference):.1f} {unit(run, 'kl_nats')}"
    nearest = f"{name} stays closest to the anchor ({saved} of KL less than {best})"
    return f"Of those not told apart, {nearest}: the careful choice."


def _empty_wins(run: RunRecord) -> list[HollowWin]:
    """Believed wins with signs of style, but for those where correctness rose too: the others are warnings only."""
    return [win for win in hollow_wins(run) if win.believed and not win.more_correct]


def _style(run: RunRecord, choice: Deciding) -> str:
    """The win that looks most like style, the winner's own first, and who else wins with the same signs."""
    hollow = _empty_wins(run)
    if not hollow:
        return ""
    first = ranked(run, choice.metric)[0][0]
    told = next((win for win in hollow if win.trial == first and win.metric == choice.metric), None)
    worst = told or hollow[0]
    # A win that the sentence before has just told is not told again.
    whose = "But its" if told else f"{_win(run, worst)}, but its"
    sentence = f"{whose} responses {signs(worst)}: read that as style, not substance."
    alike = [win for win in hollow if win != worst and short_signs(win) == short_signs(worst)]
    names = listed(_few([display_name(run, win.trial) for win in alike])) if alike else ""
    return f"{sentence} The same goes for {names}." if names else sentence


def _win(run: RunRecord, win: HollowWin) -> str:
    return f"{display_name(run, win.trial)} {win_words(win)}"


def _reach(run: RunRecord, standing: tuple[tuple[TrialRecord, Score], ...]) -> str:
    """How far the answer carries: the seeds, the smallest n, and what is not in it."""
    least = min(s.n for _, s in standing)
    most = max(s.n for _, s in standing)
    size = "" if least == most else f" The fewest prompts behind one of these numbers are {least:,}."
    missing = [one_line(name, 80) for name in (*run.bench.failed, *run.unfinished)]
    absent = f" Without scores, so not compared: {listed(missing)}." if missing else ""
    if not run.recipes:
        return f"With one seed this speaks of these checkpoints, not of the recipes in general.{size}{absent}"
    seeds = counted(run.bench.seeds, "seed")
    return f"{seeds} of each recipe were trained, and every interval covers seeds and prompts alike.{size}{absent}"
