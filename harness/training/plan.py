"""Which pairs a stage will consume, step by step, planned before anything is trained.

Costs are exact, so the plan knows the number of steps, what each will have spent, and how far the last batch must
shrink for the stage to end on its budget: unspent is less than one pair's cost.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from itertools import islice
from math import ceil

from harness import store
from harness.errors import HarnessError
from harness.recipes.recipe import Stage
from harness.training.budget import REFRESH_BYTES, UPDATE_BYTES, Cost, forward_flops, training_flops
from models.architecture import Architecture
from models.lora import Lora
from models.packing import Row

MIDWAY = (0.25, 0.5, 0.75)  # of a stage's budget: where its weights can be kept on the way


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What holds for every stage of a bench: the model's shape and the training rows in both forms."""

    architecture: Architecture
    weights: int  # that are trained: all parameters of the model, or an adapter's
    pair_rows: Sequence[Row]  # prompt with chosen and rejected
    chosen_rows: Sequence[Row]  # prompt with chosen
    batch_pairs: int
    flops_per_byte: float
    adapter: Lora | None = None  # None where all weights are trained

    def rows(self, stage: Stage) -> Sequence[Row]:
        """The rows as this stage's policy reads them."""
        return self.pair_rows if stage.objective.responses == "pair" else self.chosen_rows


@dataclass(frozen=True, kw_only=True)
class Step:
    """One optimizer step: which training pairs, at what cost, how much of the stage is spent before and after."""

    pairs: tuple[int, ...]
    cost: Cost
    spent_before: float
    spent_after: float
    refreshes: bool  # a moving reference is refreshed after it


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """All steps of a stage, and how its reference moves."""

    steps: tuple[Step, ...]
    alpha: float  # weight of the policy in each refresh; 1 for a hard one, 0 where nothing moves
    budget: float  # in FLOPs, or in pairs
    in_pairs: bool

    @property
    def pairs(self) -> tuple[int, ...]:
        """Distinct training pairs, in order of first use."""
        return tuple(dict.fromkeys(i for step in self.steps for i in step.pairs))

    @property
    def cost(self) -> Cost:
        return sum((step.cost for step in self.steps), Cost())

    @property
    def midway(self) -> tuple[int, ...]:
        """The steps, from 1, that end nearest to each of MIDWAY; fewer in a short stage, and never its last one."""
        ends = {step.spent_after: count for count, step in enumerate(self.steps[:-1], 1)}
        nearest = (min(ends, key=lambda spent: abs(spent - share)) for share in MIDWAY if ends)
        return tuple(sorted({ends[spent] for spent in nearest}))


def plan_stage(terms: Terms, stage: Stage, *, budget: float, in_pairs: bool, seed: int) -> StagePlan:
    """Plan a stage that spends `budget` FLOPs (or pairs) of rows in an order that the seed decides.

    HarnessError where not even one pair fits.
    """
    steps = _fill(terms, stage, budget, in_pairs, seed, period=None)
    alpha = 0.0
    if stage.reference.kind == "hard":
        period = max(4, round(stage.reference.period * len(steps)))
        steps, alpha = _fill(terms, stage, budget, in_pairs, seed, period), 1.0
    elif stage.reference.kind == "soft":
        half_life_steps = stage.reference.half_life * len(steps)
        alpha = 1 - 0.5 ** (1 / half_life_steps)
    return StagePlan(steps=steps, alpha=alpha, budget=budget, in_pairs=in_pairs)


def _fill(terms: Terms, stage: Stage, budget: float, in_pairs: bool, seed: int, period: int | None) -> tuple[Step, ...]:
    """Steps of `batch_pairs` rows until the budget is spent; the last one as small, or as large, as it takes."""
    upcoming = order(len(terms.pair_rows), seed)
    ahead: list[int] = []  # the next two batches
    seen: set[int] = set()
    steps: list[Step] = []
    spent = 0.0

    def refreshes(step: int) -> bool:
        return stage.reference.kind == "soft" or (period is not None and step % period == 0)

    while True:
        ahead += islice(upcoming, 2 * terms.batch_pairs - len(ahead))
        price, left = _pricer(terms, stage, seen, refreshes(len(steps) + 1)), budget - spent
        batch = _largest(ahead[: terms.batch_pairs], price, left, in_pairs)
        if not batch:
            break
        following = _pricer(terms, stage, seen, refreshes(len(steps) + 2), just_seen=frozenset(batch))
        rest = left - (len(batch) if in_pairs else price(batch).total)
        if not _largest(ahead[len(batch) : len(batch) + 1], following, rest, in_pairs):
            # What is left pays for no further step, but maybe for more pairs in this one.
            batch = _largest(ahead, price, left, in_pairs)
        cost = price(batch)
        used = float(len(batch)) if in_pairs else cost.total
        steps.append(
            Step(
                pairs=tuple(batch),
                cost=cost,
                spent_before=spent / budget,
                spent_after=(spent + used) / budget,
                refreshes=refreshes(len(steps) + 1),
            )
        )
        spent += used
        seen.update(batch)
        del ahead[: len(batch)]
        if len(batch) < terms.batch_pairs:
            break
    if not steps:
        raise HarnessError(_too_small(terms, stage, budget, in_pairs, price(ahead[:1]).total))
    return tuple(steps)


def _too_small(terms: Terms, stage: Stage, budget: float, in_pairs: bool, least: float) -> str:
    """One line for a budget that pays for no pair at all, with one that pays for a whole step."""
    name = stage.objective.name
    if in_pairs:
        enough = ceil(terms.batch_pairs / stage.share)
        return f"the budget leaves {budget:g} pairs for {name}: ask for {enough}pairs or more"
    tera = least * terms.batch_pairs / stage.share / 1e12
    return (
        f"the budget leaves {budget / 1e9:.3g} GFLOP for {name}, and one pair takes {least / 1e9:.3g}: ask for "
        f"{tera:.2g}TFLOP or more"
    )


def _pricer(
    terms: Terms, stage: Stage, seen: Set[int], refreshes: bool, *, just_seen: Set[int] = frozenset()
) -> Callable[[Sequence[int]], Cost]:
    """The cost of a step on given pairs. A frozen reference reads each distinct pair once, a moving one every time.

    What was `just_seen` is held apart, as copying all that was seen at each step would take longer and longer.
    """
    rows = terms.rows(stage)
    memory = terms.flops_per_byte * terms.weights

    def price(batch: Sequence[int]) -> Cost:
        cost = Cost(
            policy=training_flops(terms.architecture, [rows[i] for i in batch], terms.adapter),
            update=UPDATE_BYTES * memory,
            refresh=REFRESH_BYTES * memory if refreshes else 0.0,
        )
        if stage.reference.kind == "none":
            return cost
        read = (
            list(batch)
            if stage.reference.moves
            else [i for i in dict.fromkeys(batch) if not (i in seen or i in just_seen)]
        )
        reference = forward_flops(terms.architecture, [rows[i] for i in read], terms.adapter) if read else 0.0
        return replace(cost, reference=reference)

    return price


def _largest(batch: list[int], price: Callable[[Sequence[int]], Cost], left: float, in_pairs: bool) -> list[int]:
    """As many of the batch's pairs, from the first on, as what is left can pay for."""
    if in_pairs:
        return batch[: round(left)]
    if price(batch).total <= left:
        return batch
    low, high = 0, len(batch)  # low pairs fit, high do not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if price(batch[:middle]).total <= left else (low, middle)
    return batch[:low]


def order(pairs: int, seed: int) -> Iterator[int]:
    """Training pairs without end: epoch after epoch, each in an order of its own that the seed decides."""
    epoch = 0
    while True:
        shuffled = array("q", range(pairs))  # a quarter of a list's memory, where pairs are millions
        random.Random(store.digest("order", seed, epoch)).shuffle(shuffled)
        yield from shuffled
        epoch += 1
