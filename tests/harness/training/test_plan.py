"""Plans spend their budget to the last pair, in an order that the seed decides."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Literal

import pytest

from harness.errors import HarnessError
from harness.recipes.recipe import Reference, Stage
from harness.recipes.registry import choose
from harness.training.budget import REFRESH_BYTES, UPDATE_BYTES, forward_flops, parse_budget, training_flops
from harness.training.plan import StagePlan, Terms, order, plan_stage
from models.packing import Row
from tests.tiny import LLAMA, chosen_rows, pair_rows

ROWS = pair_rows(40)
TERMS = Terms(
    architecture=LLAMA,
    weights=1000,
    pair_rows=ROWS,
    chosen_rows=chosen_rows(ROWS),
    batch_pairs=8,
    flops_per_byte=8.0,
)
Kind = Literal["none", "frozen", "soft", "hard"]


def stage(kind: Kind = "frozen", **reference: float) -> Stage:
    """The registry's own DPO stage with another reference; SFT's where there is none."""
    (choice,) = choose(["sft" if kind == "none" else "dpo-beta0.1"])
    return replace(choice.stages[-1], reference=Reference(kind=kind, **reference))


def mean_pair_flops(kind: Kind) -> float:
    plan = plan_stage(TERMS, stage(kind), budget=len(ROWS), in_pairs=True, seed=0)
    return plan.cost.total / len(ROWS)


def planned(kind: Kind = "frozen", *, pairs: float = 200, seed: int = 0, **reference: float) -> StagePlan:
    """A plan on FLOPs for about this many pairs."""
    return plan_stage(TERMS, stage(kind, **reference), budget=pairs * mean_pair_flops(kind), in_pairs=False, seed=seed)


@pytest.mark.parametrize("kind", ["none", "frozen", "soft", "hard"])
@pytest.mark.parametrize("pairs", [300, 333.3, 401.7, 500])
def test_at_most_a_hundredth_is_unspent_and_nothing_is_overspent(kind: Kind, pairs: float) -> None:
    """On a budget of some hundred pairs."""
    plan = planned(kind, pairs=pairs)
    assert 0.99 <= plan.cost.total / plan.budget <= 1.0


@pytest.mark.parametrize("kind", ["none", "frozen", "soft", "hard"])
def test_all_batches_are_whole_but_the_last(kind: Kind) -> None:
    """It shrinks to what is left, or takes in what would not pay for a step of its own."""
    sizes = {tuple(len(s.pairs) for s in planned(kind, pairs=p).steps) for p in range(100, 117, 2)}
    assert all(set(s[:-1]) == {8} and 1 <= s[-1] < 16 for s in sizes)
    assert any(s[-1] < 8 for s in sizes)
    assert any(s[-1] > 8 for s in sizes)


@pytest.mark.parametrize("kind", ["none", "frozen", "soft", "hard"])
def test_one_more_pair_would_not_have_fitted(kind: Kind) -> None:
    """What is unspent is less than one pair's cost."""
    for pairs in range(100, 117, 2):
        plan = planned(kind, pairs=pairs)
        dearest = max(training_flops(LLAMA, [r]) + forward_flops(LLAMA, [r]) for r in ROWS)
        assert plan.budget - plan.cost.total < dearest


@pytest.mark.timeout(6)
def test_a_long_plan_takes_time_in_proportion() -> None:
    """100,000 pairs in a second; it was twelve while what was seen was copied at each step."""
    rows = [*ROWS[:1]] * 100_000
    terms = replace(TERMS, pair_rows=rows, chosen_rows=rows)
    plan = plan_stage(terms, stage(), budget=len(rows), in_pairs=True, seed=0)
    assert len(plan.steps) == len(rows) / TERMS.batch_pairs


def test_the_spent_fractions_join_up() -> None:
    """From zero, each step goes on where the last one stopped, and the end is what was spent."""
    plan = planned()
    joints = [(a.spent_after, b.spent_before) for a, b in itertools.pairwise(plan.steps)]
    assert plan.steps[0].spent_before == 0
    assert all(after == before for after, before in joints)
    assert plan.steps[-1].spent_after == pytest.approx(plan.cost.total / plan.budget)


@pytest.mark.parametrize("budget", [1, 7, 8, 9, 16, 41, 100])
def test_a_budget_in_pairs_is_spent_exactly(budget: int) -> None:
    """As many pairs as asked, in whole batches and a rest, whatever they cost."""
    plan = plan_stage(TERMS, stage(), budget=budget, in_pairs=True, seed=0)
    assert [len(s.pairs) for s in plan.steps] == [8] * (budget // 8) + ([budget % 8] if budget % 8 else [])
    assert plan.steps[-1].spent_after == 1


def test_the_same_seed_gives_the_same_plan() -> None:
    """And another seed another order."""
    assert planned(seed=3) == planned(seed=3)
    assert planned(seed=3).steps[0].pairs != planned(seed=4).steps[0].pairs


def test_recipes_with_one_seed_read_the_same_pairs_first() -> None:
    """Frozen, soft and hard references see the same order: they differ in nothing else."""
    orders = [[i for s in planned(kind).steps for i in s.pairs][:100] for kind in ("frozen", "soft", "hard")]
    assert orders[0] == orders[1] == orders[2]


def test_every_epoch_is_a_permutation_of_its_own() -> None:
    """Each pair once before any comes twice, and never twice in the same order."""
    stream = order(40, seed=7)
    epochs = [tuple(itertools.islice(stream, 40)) for _ in range(5)]
    assert all(sorted(epoch) == list(range(40)) for epoch in epochs)
    assert len(set(epochs)) == 5


def test_plans_take_the_pairs_in_that_order() -> None:
    """Nothing is skipped between epochs; only the end of the last batch is left out."""
    taken = [i for s in planned(pairs=130).steps for i in s.pairs]
    assert taken == list(itertools.islice(order(40, seed=0), len(taken)))


def test_a_frozen_reference_is_charged_once_for_each_distinct_pair() -> None:
    """After the first epoch it costs nothing more."""
    plan = planned("frozen", pairs=200)
    assert [s.cost.reference > 0 for s in plan.steps] == [n < 5 for n in range(len(plan.steps))]
    parts = [forward_flops(LLAMA, [ROWS[i] for i in s.pairs]) for s in plan.steps[:5]]
    assert plan.cost.reference == pytest.approx(sum(parts))


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_a_moving_reference_is_charged_every_time(kind: Kind) -> None:
    """Each step reads all of its pairs again."""
    for step in planned(kind).steps:
        assert step.cost.reference == forward_flops(LLAMA, [ROWS[i] for i in step.pairs])


def test_no_reference_costs_nothing() -> None:
    """SFT pays for its policy and its updates alone, on the chosen responses."""
    for step in planned("none").steps:
        assert (step.cost.reference, step.cost.refresh, step.refreshes) == (0, 0, False)
        assert step.cost.policy == training_flops(LLAMA, [TERMS.chosen_rows[i] for i in step.pairs])


def test_every_step_is_charged_its_update() -> None:
    """Memory-bound: bytes a weight times the machine's balance."""
    assert {s.cost.update for s in planned().steps} == {UPDATE_BYTES * 8.0 * 1000}


def test_a_soft_reference_is_refreshed_and_charged_after_every_step() -> None:
    """The refresh is at its FLOP-equivalent."""
    assert {(s.refreshes, s.cost.refresh) for s in planned("soft").steps} == {(True, REFRESH_BYTES * 8.0 * 1000)}


@pytest.mark.parametrize("half_life", [0.1, 0.25, 0.5])
def test_after_its_half_life_half_of_a_soft_reference_is_new(half_life: float) -> None:
    """(1 − α) to the power of that share of the steps is one half."""
    plan = planned("soft", half_life=half_life)
    assert (1 - plan.alpha) ** (half_life * len(plan.steps)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("pairs", "period", "steps_between"), [(200, 0.25, 6), (200, 0.5, 12), (60, 0.25, 4), (200, 0.01, 4)]
)
def test_a_hard_reference_jumps_every_share_of_the_stage_but_never_within_4_steps(
    pairs: int, period: float, steps_between: int
) -> None:
    """Refreshed sooner, policy and reference would be the same and nothing would be learned."""
    plan = planned("hard", pairs=pairs, period=period)
    jumps = [n for n, s in enumerate(plan.steps, 1) if s.refreshes]
    assert plan.alpha == 1
    assert abs(jumps[0] - steps_between) <= 1
    assert jumps == [n for n in range(1, len(plan.steps) + 1) if n % jumps[0] == 0]
    assert jumps[0] >= 4


@pytest.mark.parametrize("kind", ["none", "frozen"])
def test_what_does_not_move_is_never_refreshed(kind: Kind) -> None:
    """And mixes nothing."""
    plan = planned(kind)
    assert plan.alpha == 0
    assert not any(s.refreshes for s in plan.steps)


@pytest.mark.parametrize("kind", ["none", "frozen", "soft"])
@pytest.mark.parametrize(("in_pairs", "words"), [(True, "leaves 0.1 pairs"), (False, "leaves 1e-10 GFLOP")])
def test_a_budget_below_one_pair_is_refused_with_what_would_do(words: str, in_pairs: bool, kind: Kind) -> None:
    """In a line that names what there is; asking again for what it says gives a plan."""
    asked = stage(kind)
    with pytest.raises(HarnessError, match=f"the budget {words} for (sft|dpo).*: ask for ") as caught:
        plan_stage(TERMS, asked, budget=0.1, in_pairs=in_pairs, seed=0)
    advice = parse_budget(str(caught.value).split("ask for ")[1].removesuffix(" or more"))
    assert advice.unit == ("pairs" if in_pairs else "flops")
    assert plan_stage(TERMS, asked, budget=advice.amount * asked.share, in_pairs=in_pairs, seed=0).steps


def test_more_pairs_in_a_batch_than_there_are_come_again() -> None:
    """A data set smaller than a batch is gone through several times, and its frozen reference is read once."""
    few = pair_rows(3)
    terms = replace(TERMS, pair_rows=few, chosen_rows=chosen_rows(few))
    plan = plan_stage(terms, stage(), budget=16, in_pairs=True, seed=0)
    assert plan.pairs == tuple(dict.fromkeys(plan.steps[0].pairs))
    assert plan.cost.reference == forward_flops(LLAMA, [few[i] for i in plan.pairs])


def test_distinct_pairs_are_in_the_order_of_their_first_use() -> None:
    """Each once."""
    plan = planned(pairs=130)
    assert sorted(plan.pairs) == list(range(40))
    assert plan.pairs[:8] == plan.steps[0].pairs


@pytest.mark.parametrize("kind", ["none", "frozen", "soft", "hard"])
def test_the_way_is_kept_at_each_quarter_but_the_last(kind: Kind) -> None:
    """After the steps that end nearest to 25, 50 and 75%, whatever else they cost."""
    plan = planned(kind, pairs=400)
    spent = [plan.steps[step - 1].spent_after for step in plan.midway]
    assert len(spent) == 3
    for share, found in zip((0.25, 0.5, 0.75), spent, strict=True):
        assert abs(found - share) == min(abs(step.spent_after - share) for step in plan.steps)


@pytest.mark.parametrize(("steps", "midway"), [(1, ()), (2, (1,)), (3, (1, 2)), (4, (1, 2, 3)), (8, (2, 4, 6))])
def test_a_short_stage_has_fewer_places_on_the_way(steps: int, midway: tuple[int, ...]) -> None:
    """Its end, which is scored fully, is none of them, and no place is kept twice."""
    plan = plan_stage(TERMS, stage(), budget=steps * TERMS.batch_pairs, in_pairs=True, seed=0)
    assert (len(plan.steps), plan.midway) == (steps, midway)


def test_sft_reads_the_chosen_responses_alone() -> None:
    """And a pair objective both."""
    row: Row = TERMS.rows(stage("none"))[0]
    assert len(row.responses) == 1
    assert len(TERMS.rows(stage("frozen"))[0].responses) == 2
