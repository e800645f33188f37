"""Nodes are trained once, whole or not at all, and every trial is charged as if it ran alone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.engines.charge import stage_ledger
from harness.engines.graph import ReferenceNode, TrainNode
from harness.engines.local import CHECKPOINT, LEDGER, TABLE, take_in
from harness.records import StageLedger, TrainStep
from harness.training.budget import Budget
from harness.training.reference import pair_logps
from models.decoder import Decoder
from models.room import OutOfMemoryError
from tests.harness.engines.ground import MODEL, TERMS, Watched, nodes


def stop_at(step: int) -> Any:
    """A Ctrl-C once this step of any stage is taken."""

    def on_step(line: TrainStep) -> None:
        if line.step == step:
            raise KeyboardInterrupt

    return on_step


def made(cache: Path) -> set[str]:
    """What lies among the nodes, locks left out."""
    return {path.name for path in (cache / "nodes").iterdir() if path.suffix != ".lock"}


def reference_of(node: TrainNode) -> ReferenceNode:
    assert node.reference is not None
    return node.reference


def untimed(ledger: StageLedger) -> StageLedger:
    return dataclasses.replace(ledger, device_seconds=0.0, peak_memory_bytes=0)


def test_a_finished_node_is_not_computed_twice(tmp_path: Path) -> None:
    """Neither by the engine that made it nor by another on the same cache."""
    node = nodes("dpo")[1]
    first, second = Watched(cache=tmp_path), Watched(cache=tmp_path)
    for watched in (first, first, second):
        watched.engine.train(node)
    assert (len(first.trained), second.trained) == (2, [])


def test_a_stage_that_two_recipes_share_is_trained_once(tmp_path: Path) -> None:
    """Three stages for two recipes of two."""
    watched = Watched(cache=tmp_path)
    ends = [nodes(name)[1] for name in ("dpo-beta0.1", "dpo-beta0.5")]
    for node in ends:
        watched.engine.train(node)
    assert watched.trained == [nodes("dpo")[0].digest, *(node.digest for node in ends)]


def test_a_reference_pass_that_two_recipes_share_is_made_once(tmp_path: Path) -> None:
    """The second recipe reads the first one's table, to the byte."""
    watched, reference = Watched(cache=tmp_path), reference_of(nodes("dpo-beta0.1")[1])
    watched.engine.train(nodes("dpo-beta0.1")[1])
    table = tmp_path / "nodes" / reference.digest[:32] / TABLE
    before = table.stat().st_mtime_ns
    watched.engine.train(nodes("dpo-beta0.5")[1])
    assert table.stat().st_mtime_ns == before


def test_an_interrupted_node_leaves_nothing(tmp_path: Path) -> None:
    """No folder that another run could take for a checkpoint, and no litter."""
    with pytest.raises(KeyboardInterrupt):
        Watched(cache=tmp_path, on_step=stop_at(2)).engine.train(nodes("sft")[0])
    assert made(tmp_path) == set()


def test_what_was_finished_before_an_interrupt_stays(tmp_path: Path) -> None:
    """Anchor and reference are not made again."""
    anchor, end = nodes("dpo")
    with pytest.raises(KeyboardInterrupt):  # the anchor has 4 steps, DPO 6
        Watched(cache=tmp_path, on_step=stop_at(5)).engine.train(end)
    assert made(tmp_path) == {anchor.digest[:32], reference_of(end).digest[:32]}


def test_an_interrupted_node_is_trained_to_the_same_weights(tmp_path: Path) -> None:
    """Byte for byte those of a run that nobody stopped."""
    node = nodes("sft")[0]
    whole = Watched(cache=tmp_path / "whole").engine.train(node)
    with pytest.raises(KeyboardInterrupt):
        Watched(cache=tmp_path / "cut", on_step=stop_at(2)).engine.train(node)
    continued = Watched(cache=tmp_path / "cut").engine.train(node)
    assert continued.checkpoint.read_bytes() == whole.checkpoint.read_bytes()


def midway_of(node: TrainNode, watched: Watched) -> dict[int, bytes]:
    with watched.engine.midpoints(node) as paths:
        return {step: path.read_bytes() for step, path in paths.items()}


@pytest.mark.parametrize("recipe", ["sft", "dpo", "dpo-soft-reference", "dpo-hard-reference"])
def test_keeping_weights_on_the_way_changes_no_weight(tmp_path: Path, recipe: str) -> None:
    """Trained with and without: the same checkpoint to the byte, and the same log."""
    node = nodes(recipe)[-1]
    plain = Watched(cache=tmp_path / "plain").engine.train(node)
    kept = Watched(cache=tmp_path / "kept").engine.train(node, midway=True)
    assert (kept.checkpoint.read_bytes(), kept.steps) == (plain.checkpoint.read_bytes(), plain.steps)
    assert untimed(kept.ledger) == untimed(plain.ledger)


@pytest.mark.parametrize("recipe", ["sft", "dpo", "dpo-soft-reference", "dpo-hard-reference"])
def test_weights_on_the_way_are_the_same_when_made_again(tmp_path: Path, recipe: str) -> None:
    """A node that was cached without them is trained once more, up to the last of them, and stays as it was."""
    node, watched = nodes(recipe)[-1], Watched(cache=tmp_path / "again")
    first = midway_of(node, Watched(cache=tmp_path / "first"))
    checkpoint = watched.engine.train(node).checkpoint
    before = checkpoint.stat().st_mtime_ns
    assert midway_of(node, watched) == first
    assert (watched.trained.count(node.digest), checkpoint.stat().st_mtime_ns) == (2, before)
    assert (tuple(first), len(set(first.values()))) == (node.plan.midway, len(node.plan.midway))


def test_weights_kept_while_training_are_not_made_again(tmp_path: Path) -> None:
    node, watched = nodes("dpo")[-1], Watched(cache=tmp_path)
    watched.engine.train(node, midway=True)
    assert len(midway_of(node, watched)) == 3
    assert watched.trained.count(node.digest) == 1


def test_weights_on_the_way_are_gone_once_read(tmp_path: Path) -> None:
    """One checkpoint a node stays on the disk."""
    node = nodes("dpo")[-1]
    midway_of(node, Watched(cache=tmp_path))
    assert [path.name for path in (tmp_path / "nodes" / node.digest[:32]).glob("**/*.safetensors")] == [CHECKPOINT]


def test_weights_on_the_way_stay_for_who_was_interrupted(tmp_path: Path) -> None:
    """A Ctrl-C while they are read does not cost a training."""
    node, watched = nodes("dpo")[-1], Watched(cache=tmp_path)
    with pytest.raises(KeyboardInterrupt), watched.engine.midpoints(node):
        raise KeyboardInterrupt
    midway_of(node, watched)
    assert watched.trained.count(node.digest) == 1


def test_a_stage_of_one_step_has_no_way(tmp_path: Path) -> None:
    """Its only checkpoint is its end."""
    assert midway_of(nodes("sft", budget=Budget(pairs=4))[-1], Watched(cache=tmp_path)) == {}


def test_a_folder_without_its_last_file_is_made_again(tmp_path: Path) -> None:
    """Nothing is taken for a checkpoint that was not finished."""
    node = nodes("sft")[0]
    folder = tmp_path / "nodes" / node.digest[:32]
    folder.mkdir(parents=True)
    (folder / CHECKPOINT).write_bytes(b"half")
    trained = Watched(cache=tmp_path).engine.train(node)
    assert trained.checkpoint.read_bytes() != b"half"


def test_a_node_trains_on_from_its_parent(tmp_path: Path) -> None:
    """With no step of its own, a second stage would be the first: its log-probs begin where the anchor ended."""
    engine = Watched(cache=tmp_path).engine
    anchor, end = nodes("dpo")
    first = end.plan.steps[0].pairs
    expected = pair_logps(engine.decoder(anchor), [TERMS.pair_rows[i] for i in first], torch.float32)
    assert engine.train(end).steps[0].logps_chosen == pytest.approx(expected[:, 0].mean().item(), rel=1e-5)


def test_cached_reference_log_probs_are_those_of_the_anchor(tmp_path: Path) -> None:
    """Every pair of the stage, chosen and rejected, as a fresh pass over it alone gives them."""
    engine = Watched(cache=tmp_path).engine
    anchor, end = nodes("dpo")
    table = engine.reference(reference_of(end)).logps
    decoder = engine.decoder(anchor)
    fresh = {i: tuple(pair_logps(decoder, [TERMS.pair_rows[i]], torch.float32)[0].tolist()) for i in table}
    assert set(table) == set(end.plan.pairs)
    assert all(table[i] == pytest.approx(fresh[i], rel=1e-5) for i in table)


def test_the_model_itself_is_never_trained(tmp_path: Path) -> None:
    """Stages train copies."""
    before = {name: tensor.clone() for name, tensor in MODEL.state_dict().items()}
    Watched(cache=tmp_path).engine.train(nodes("sft")[0])
    assert all(torch.equal(tensor, before[name]) for name, tensor in MODEL.state_dict().items())


def test_a_stage_trains_a_copy_of_the_checkpoint_that_it_begins_with(tmp_path: Path) -> None:
    """The same numbers in other memory, since the file's pages are dear to write to."""
    policy = Watched(cache=tmp_path).engine.decoder(nodes("sft")[0])
    before = {name: (weight.data_ptr(), weight.clone()) for name, weight in policy.named_parameters()}
    take_in(policy)
    for name, weight in policy.named_parameters():
        assert weight.data_ptr() != before[name][0]
        assert torch.equal(weight, before[name][1])


def test_a_checkpoint_that_there_is_no_memory_to_copy_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(policy: Decoder) -> Decoder:
        raise MemoryError

    monkeypatch.setattr("harness.engines.local.take_in", fail)
    with pytest.raises(OutOfMemoryError, match=r"the checkpoint to begin with of [\d,]+ weights does not fit: choose"):
        Watched(cache=tmp_path).engine.train(nodes("dpo")[1])


@pytest.mark.parametrize("reference", ["frozen", "soft", "hard"])
def test_in_bfloat16_a_stage_takes_the_steps_that_it_takes_in_float32(tmp_path: Path, reference: str) -> None:
    """But for rounding, whichever copies a reference has. Margins are 0.01 to 0.17, by how it moves."""
    end = nodes(f"dpo:reference={reference}:learning_rate=0.01", budget=Budget(pairs=80))[1]
    rounded, exact = (
        Watched(cache=tmp_path / str(dtype), dtype=dtype).engine.train(end).steps
        for dtype in (torch.bfloat16, torch.float32)
    )
    margins = [line.rewards_margins for line in exact]
    assert [line.rewards_margins for line in rounded] == pytest.approx(margins, abs=3e-3)
    assert margins[-1] > 6e-3


def test_a_trial_is_charged_as_if_it_ran_alone(tmp_path: Path) -> None:
    """The second recipe of a bench has the ledger that it would have on an empty cache."""
    shared, alone = Watched(cache=tmp_path / "shared").engine, Watched(cache=tmp_path / "alone").engine
    shared.train(nodes("dpo-beta0.1")[1])
    for node in nodes("dpo-beta0.5"):
        assert untimed(shared.train(node).ledger) == untimed(alone.train(node).ledger)


def test_a_shared_reference_pass_is_charged_in_seconds_too(tmp_path: Path) -> None:
    """Its seconds are those of the one pass that was made."""
    engine, end = Watched(cache=tmp_path).engine, nodes("dpo-beta0.5")[1]
    engine.reference(reference_of(end))
    table = tmp_path / "nodes" / reference_of(end).digest[:32] / TABLE
    table.write_text(json.dumps({**json.loads(table.read_text()), "seconds": 1000.0}))
    assert engine.train(end).ledger.device_seconds > 1000


@pytest.mark.parametrize("recipe", ["sft", "dpo", "dpo-soft-reference", "dpo-hard-reference"])
def test_a_trial_is_charged_its_budget_and_no_more(recipe: str) -> None:
    """Unspent is at most 1% once a step is less than that."""
    trial = nodes(recipe, budget=Budget(flops=1e9))
    spent = sum(stage_ledger(TERMS, node, seconds=0.0, peak=0).flops for node in trial)
    assert 0.99e9 <= spent <= 1e9


@pytest.mark.parametrize(
    ("recipe", "paid", "free"),
    [
        ("sft", {"policy_flops", "update_flops"}, {"reference_flops", "refresh_flops"}),
        ("dpo", {"policy_flops", "update_flops", "reference_flops"}, {"refresh_flops"}),
        ("dpo-soft-reference", {"policy_flops", "update_flops", "reference_flops", "refresh_flops"}, set()),
        ("dpo-hard-reference", {"policy_flops", "update_flops", "reference_flops", "refresh_flops"}, set()),
    ],
)
def test_every_kind_of_work_is_charged_where_it_is_done(
    tmp_path: Path, recipe: str, paid: set[str], free: set[str]
) -> None:
    """A frozen reference costs passes, a moving one refreshes as well."""
    ledger = dataclasses.asdict(Watched(cache=tmp_path).engine.train(nodes(recipe)[-1]).ledger)
    assert {name for name in paid | free if ledger[name] > 0} == paid


def test_the_ledger_counts_what_the_plan_consumed(tmp_path: Path) -> None:
    """24 pairs of 24, one epoch, in 6 steps."""
    ledger = Watched(cache=tmp_path).engine.train(nodes("dpo")[1]).ledger
    assert (ledger.steps, ledger.pairs, ledger.distinct_pairs, ledger.epochs) == (6, 24, 24, 1.0)


@pytest.mark.parametrize(("recipe", "lag"), [("sft", None), ("dpo", None), ("dpo-hard-reference", 7 / 6)])
def test_the_ledger_gives_the_mean_age_of_a_moving_reference(tmp_path: Path, recipe: str, lag: float | None) -> None:
    """Six steps with a jump after the fourth see weights 0, 1, 2, 3, 0 and 1 steps old."""
    ledger = Watched(cache=tmp_path).engine.train(nodes(recipe)[-1]).ledger
    assert ledger.reference_lag_steps == (None if lag is None else pytest.approx(lag))


def test_the_ledger_is_the_last_file_of_a_node(tmp_path: Path) -> None:
    """It being there means done."""
    node = nodes("sft")[0]
    Watched(cache=tmp_path).engine.train(node)
    files = sorted((tmp_path / "nodes" / node.digest[:32]).iterdir(), key=lambda f: f.stat().st_mtime_ns)
    assert files[-1].name == LEDGER


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "train.jsonl", "ledger.json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_node_is_made_again(tmp_path: Path, name: str, damage: str) -> None:
    """To the same weights: nobody has to delete anything by hand."""
    engine = Watched(cache=tmp_path).engine
    node = nodes("sft")[0]
    before = [p.clone() for p in engine.decoder(node).parameters()]  # copies: a loaded checkpoint is its mapped file
    path = engine.train(node).checkpoint.parent / name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    after = Watched(cache=tmp_path).engine.decoder(node).parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert engine.train(node).checkpoint.exists()
