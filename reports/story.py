"""The report's order: the answer first, then the evidence, then how to read and repeat it."""

from __future__ import annotations

import dataclasses

from harness.records import JudgeCard, RunRecord
from reports import cards, contrasts, costs, paths, provenance, tables, wins
from reports.cautions import warnings
from reports.curves import ends_table
from reports.deciding import Deciding, deciding
from reports.glossary import term
from reports.numbers import phrase
from reports.page import Block, Browser, Code, Figure, Page, Section, Table
from reports.paths import NAMED
from reports.samples import telling_samples
from reports.summary import answer
from reports.text import counted, one_line
from reports.timing import timing_notes
from reports.trials import by_recipe, failings

TELLING = "The prompts that tell the most, with what every trial wrote:"
READING = (
    "Every trial is one recipe, trained on the budget of its run and scored the same way against the same anchor: "
    "the shared checkpoint after supervised fine-tuning (SFT). A win rate is how often a trial's response to "
    "a held-out prompt is better than the anchor's; 50% is no gain. KL says how far its responses drifted "
    "from the anchor's, in nats a response: of two recipes that win as often, the one with less KL changed "
    "less else. Reward accuracy and margin ask only whether training moved log-probs to chosen responses.",
    "The smaller figures are 95% intervals; n is the number of prompts or pairs behind them. Two recipes "
    "differ where the paired test says so: overlapping intervals prove nothing either way.",
)


def page(run: RunRecord) -> Page:
    """The whole report of one run."""
    trials = bool(run.trials)
    sections = (
        _scores(run) if trials else None,
        _pairs(run) if len(run.trials) > 1 else None,
        _judging(run) if run.judges else None,
        _quality(run) if trials else None,
        _training(run) if trials else None,
        _cost(run) if trials else None,
        _samples(run) if trials else None,
        Section(title="How to read this", blocks=READING),
        _provenance(run),
    )
    return Page(
        title="Which recipe?",
        subtitle=_subtitle(run),
        answer=answer(run),
        warnings=warnings(run),
        sections=tuple(section for section in sections if section is not None),
    )


def _subtitle(run: RunRecord) -> str:
    bench = run.bench
    facts = (
        f"{one_line(bench.model, 80)} on {one_line(bench.data, 80)}",
        counted(len(run.trials), "trial"),
        f"{bench.budget} each",
        counted(bench.eval_prompts, "held-out prompt"),
    )
    return " · ".join(facts)


def _scores(run: RunRecord) -> Section:
    choice = deciding(run)
    title = term(choice.metric).title
    frontier = Figure(
        name="frontier",
        description=f"{title} of every trial against its KL to the anchor, as in the table of scores",
        caption=f"{title} against KL, with 95% intervals: up is better, left is closer to the anchor."
        f"{_ways(run)}{_numbered(run)}",
    )
    underway = [found for found in (paths.matched_table(run), paths.way_table(run)) if found.rows]
    blocks: tuple[Block, ...] = (
        _decided(choice),
        tables.main_table(by_recipe(run)),
        *_each_seed(run),
        frontier,
        *underway,
        tables.preference_table(by_recipe(run)),
    )
    return Section(title="Scores", blocks=blocks)


def _each_seed(run: RunRecord) -> tuple[Table, ...]:
    """With several seeds, every trial by itself, folded away."""
    if not run.recipes:
        return ()
    found = tables.main_table(run)
    return (dataclasses.replace(found, caption="Every seed by itself: intervals cover the prompts alone", folded=True),)


def _ways(run: RunRecord) -> str:
    drawn = paths.paths_drawn(run)
    return " Thin lines lead from each checkpoint on the way to the trial." if drawn else ""


def _numbered(run: RunRecord) -> str:
    return " Numbers are ranks in the table of scores." if len(run.trials) > NAMED else ""


def _decided(choice: Deciding) -> str:
    if choice.by_truth:
        reason = "the data has a check of its own (correctness first, then courtesy), so no judge is needed"
    elif choice.judge is not None:
        reason = f"judge {choice.judge.name} is the first that qualified"
    else:
        reason = "the data has no checker, and no qualified judge scored every trial"
    highest = "The highest is in bold, which is not to say that it is shown to be better"
    return f"{term(choice.metric).title} decides: {reason}. {highest}."


def _pairs(run: RunRecord) -> Section:
    blocks = (contrasts.contrasts_of_interest(by_recipe(run)), contrasts.matrix_table(by_recipe(run)))
    return Section(title="Which can be told apart", blocks=tuple(block for block in blocks if block.rows))


def _judging(run: RunRecord) -> Section:
    blocks: list[Block] = [_verdict_on(card) for card in run.judges]
    if run.trials:
        blocks.append(wins.judged_table(by_recipe(run)))
        blocks += [found for found in (wins.corrected_table(by_recipe(run)), wins.ranking_table(run)) if found.rows]
    if run.agreements:
        blocks.append(tables.agreement_table(run))
    measured = (cards.card_table(run), cards.contrast_table(run), cards.error_table(run), cards.reliability_table(run))
    blocks += [block for block in measured if block.rows]
    return Section(title="Can the judge be believed?", blocks=tuple(blocks))


def _verdict_on(card: JudgeCard) -> str:
    name, accuracy = one_line(card.name, 60), phrase(card.accuracy)
    prompts = counted(card.accuracy.n, "held-out prompt")
    about = f"{name} ({one_line(card.description)}) ranks {accuracy} of the labelled pairs of {prompts} rightly"
    if card.qualified:
        about = f"{about} and is not fooled by responses that should lose: it is qualified."
    else:
        about = f"{about}, and is not qualified: {failings(card)}."
    return " ".join((about, *map(one_line, card.cautions)))


def _quality(run: RunRecord) -> Section:
    words = "A win rate can be won by style. These are the figures that give it away."
    return Section(title="What a win rate hides", blocks=(words, tables.quality_table(by_recipe(run))))


def _training(run: RunRecord) -> Section:
    figure = Figure(
        name="training",
        description="Loss, reward margin and reward accuracy of every trial over its stage",
        caption="Training over the spent share of each stage's budget; a line is the mean of near steps. "
        "Rewards are scaled by each recipe's own beta, so compare shapes, not heights.",
    )
    return Section(title="Training", blocks=(figure, ends_table(run)))


def _cost(run: RunRecord) -> Section:
    blocks: tuple[Block, ...] = (
        costs.cost_table(run),
        *timing_notes(run),
        costs.time_table(run),
        *((costs.judging_table(run),) if any(card.verdicts_per_second for card in run.judges) else ()),
        costs.stage_table(run),
    )
    return Section(title="Cost", blocks=blocks)


def _samples(run: RunRecord) -> Section:
    return Section(title="Responses, side by side", blocks=(Browser(), TELLING, *telling_samples(run)))


def _provenance(run: RunRecord) -> Section:
    blocks: list[Block] = [provenance.provenance_table(run)]
    if run.bench.recipe_summaries:
        blocks.append(provenance.recipe_table(run))
    if run.bench.command:
        blocks += [
            "In this report's folder, this makes it again from the records of the runs:"
            if run.bench.runs
            else "In this report's folder, this runs it again, to the same numbers but for times:",
            Code(text=run.bench.command),
        ]
    return Section(title="Provenance", blocks=tuple(blocks))
