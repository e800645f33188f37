"""With an adapter a checkpoint is the adapter alone, one that goes on through all stages, on one shared base."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness.engines.graph import TrainNode, stage_nodes
from harness.engines.local import CHECKPOINT, LocalEngine
from harness.recipes.registry import choose
from harness.records import StageLedger, TrainStep
from harness.training.budget import Budget
from harness.training.reference import pair_logps
from harness.training.train import Execution
from models.lora import parse_lora
from models.low_rank import adapter_off, own_weights, with_adapter
from tests.harness.engines.ground import FORTY_PAIRS, MODEL, TERMS, nodes
from tests.tiny import LLAMA

LORA = parse_lora("lora:r=4")
ADAPTED = dataclasses.replace(TERMS, adapter=LORA, weights=LORA.weights(LLAMA))
RECIPES = ("sft", "dpo", "dpo-soft-reference", "dpo-hard-reference")


def adapted_nodes(recipe: str, *, spec: str = "lora:r=4", budget: Budget = FORTY_PAIRS) -> tuple[TrainNode, ...]:
    """The nodes of one recipe's trial with an adapter."""
    lora = parse_lora(spec)
    terms = dataclasses.replace(TERMS, adapter=lora, weights=lora.weights(LLAMA))
    (choice,) = choose([recipe])
    return stage_nodes(terms, f"ground {spec}", choice.stages, budget, 0)


@dataclass(kw_only=True)
class Adapting:
    """An engine whose policies have an adapter, and what it trained."""

    cache: Path
    on_step: Callable[[TrainStep], None] = lambda step: None
    trained: list[str] = field(default_factory=list)

    @property
    def engine(self) -> LocalEngine:
        return LocalEngine(
            cache=self.cache,
            terms=ADAPTED,
            execution=Execution(dtype=torch.float32, micro_batch_tokens=64),
            fresh=lambda: with_adapter(MODEL, LORA),
            hollow=lambda: with_adapter(MODEL, LORA),
            device=torch.device("cpu"),
            on_stage=lambda node: self.trained.append(node.digest),
            on_step=self.on_step,
        )


def untimed(ledger: StageLedger) -> StageLedger:
    return dataclasses.replace(ledger, device_seconds=0.0, peak_memory_bytes=0)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_checkpoint_holds_the_adapter_alone(tmp_path: Path, recipe: str) -> None:
    """Its tensors, all of them, and no other."""
    found = load_file(Adapting(cache=tmp_path).engine.train(adapted_nodes(recipe)[-1]).checkpoint)
    wanted = own_weights(with_adapter(MODEL, LORA))
    assert {name: tensor.shape for name, tensor in found.items()} == {n: w.shape for n, w in wanted.items()}


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_base_keeps_every_bit_through_all_stages(tmp_path: Path, recipe: str) -> None:
    before = {name: tensor.clone() for name, tensor in MODEL.state_dict().items()}
    Adapting(cache=tmp_path).engine.train(adapted_nodes(recipe)[-1])
    assert all(torch.equal(tensor, before[name]) for name, tensor in MODEL.state_dict().items())


def test_restored_policies_share_the_base(tmp_path: Path) -> None:
    """Anchor and policy side by side are one base and two adapters."""
    engine, (anchor, end) = Adapting(cache=tmp_path).engine, adapted_nodes("dpo")
    for node in (None, anchor, end):
        mine = dict(engine.decoder(node).named_parameters())
        assert all(mine[name].data_ptr() == weight.data_ptr() for name, weight in MODEL.named_parameters())


def test_one_adapter_goes_on_through_the_stages(tmp_path: Path) -> None:
    """DPO begins where the anchor ended, so the last checkpoint alone, on the user's base, is the policy."""
    engine, (anchor, end) = Adapting(cache=tmp_path).engine, adapted_nodes("dpo")
    first = end.plan.steps[0].pairs
    expected = pair_logps(engine.decoder(anchor), [TERMS.pair_rows[i] for i in first], torch.float32)
    assert engine.train(end).steps[0].logps_chosen == pytest.approx(expected[:, 0].mean().item(), rel=1e-5)


def test_a_frozen_reference_is_the_anchors_adapter(tmp_path: Path) -> None:
    """Its cached log-probs are the anchor's, and neither the base's nor the policy's."""
    engine, (anchor, end) = Adapting(cache=tmp_path).engine, adapted_nodes("dpo")
    assert end.reference is not None
    table, decoder = engine.reference(end.reference).logps, engine.decoder(anchor)
    fresh = {i: tuple(pair_logps(decoder, [TERMS.pair_rows[i]], torch.float32)[0].tolist()) for i in table}
    assert all(table[i] == pytest.approx(fresh[i], rel=1e-5) for i in table)
    with adapter_off(decoder):
        base = {i: tuple(pair_logps(decoder, [TERMS.pair_rows[i]], torch.float32)[0].tolist()) for i in table}
    assert all(table[i] != pytest.approx(base[i], rel=1e-5) for i in table)


def test_a_stage_from_the_model_itself_is_held_against_the_adapter_off(tmp_path: Path) -> None:
    """The reference of a policy that begins as the model is the model: the same log-probs, bit for bit."""
    (_, stage) = choose(["dpo"])[0].stages
    (node,) = stage_nodes(ADAPTED, "ground", [stage], FORTY_PAIRS, 0)
    assert node.reference is not None
    assert node.reference.checkpoint is None
    adapted = Adapting(cache=tmp_path / "adapted").engine.reference(node.reference).logps
    plain = dataclasses.replace(
        Adapting(cache=tmp_path / "plain").engine, fresh=lambda: copy.deepcopy(MODEL), hollow=MODEL.hollow
    )
    assert plain.reference(node.reference).logps == adapted


@pytest.mark.parametrize("recipe", RECIPES)
def test_an_interrupted_stage_is_trained_to_the_same_adapter(tmp_path: Path, recipe: str) -> None:
    """Byte for byte; stages that were finished before are not trained again."""

    def stop(line: TrainStep) -> None:
        if line.step == 5:
            raise KeyboardInterrupt

    (*_, end) = adapted_nodes(recipe)
    whole = Adapting(cache=tmp_path / "whole").engine.train(end)
    cut = Adapting(cache=tmp_path / "cut", on_step=stop)
    with contextlib.suppress(KeyboardInterrupt):
        cut.engine.train(end)
    again = Adapting(cache=tmp_path / "cut")
    continued = again.engine.train(end)
    assert continued.checkpoint.read_bytes() == whole.checkpoint.read_bytes()
    assert again.trained == [end.digest]


@pytest.mark.parametrize("recipe", RECIPES)
def test_keeping_adapters_on_the_way_changes_none(tmp_path: Path, recipe: str) -> None:
    """The same checkpoint to the byte, and those on the way are adapters too."""
    node = adapted_nodes(recipe)[-1]
    plain = Adapting(cache=tmp_path / "plain").engine.train(node)
    engine = Adapting(cache=tmp_path / "kept").engine
    kept = engine.train(node, midway=True)
    assert kept.checkpoint.read_bytes() == plain.checkpoint.read_bytes()
    assert untimed(kept.ledger) == untimed(plain.ledger)
    with engine.midpoints(node) as paths:
        assert {load_file(path).keys() == load_file(kept.checkpoint).keys() for path in paths.values()} == {True}
        assert all(own_weights(engine.restore(path)) for path in paths.values())


def test_a_damaged_adapter_is_made_again(tmp_path: Path) -> None:
    """Cut, or another one's: to the same weights."""
    engine, node = Adapting(cache=tmp_path).engine, adapted_nodes("sft")[0]
    before = engine.train(node).checkpoint.read_bytes()
    for damage in (before[: len(before) // 2], b""):
        (tmp_path / "nodes" / node.digest[:32] / CHECKPOINT).write_bytes(damage)
        engine.decoder(node)
        assert engine.train(node).checkpoint.read_bytes() == before


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_trial_with_an_adapter_is_charged_its_budget_and_no_more(recipe: str) -> None:
    """Unspent is at most 1% once a pair is less than that."""
    trial = adapted_nodes(recipe, budget=Budget(flops=1e9))
    assert 0.99e9 <= sum(node.plan.cost.total for node in trial) <= 1e9


def test_an_adapter_pays_for_more_pairs_than_all_weights_do() -> None:
    """No weight gradients of the base, and hardly any optimizer: the same FLOPs reach further."""
    full = nodes("dpo", budget=Budget(flops=1e9))
    assert sum(len(n.plan.steps) for n in adapted_nodes("dpo", budget=Budget(flops=1e9))) > sum(
        len(n.plan.steps) for n in full
    )


def test_every_setting_of_an_adapter_makes_another_stage() -> None:
    """In the plans' own digests or in the ground's: nothing is taken for another's."""
    specs = ("lora:r=4", "lora:r=8", "lora:r=4:alpha=8", "lora:r=4:target=q", "lora:r=4:lr=1")
    digests = [adapted_nodes("dpo", spec=spec)[1].digest for spec in specs] + [nodes("dpo")[1].digest]
    assert len(set(digests)) == len(specs) + 1


def test_rates_are_the_recipes_times_the_adapters_factor() -> None:
    """The recipes stay as they are; what a stage is trained with is on its node, and so in its digest and log."""
    rates = {spec: [n.stage.learning_rate for n in adapted_nodes("dpo", spec=spec)] for spec in ("lora", "lora:lr=3")}
    plain = [node.stage.learning_rate for node in nodes("dpo")]
    assert rates["lora"] == pytest.approx([10 * rate for rate in plain])
    assert rates["lora:lr=3"] == pytest.approx([3 * rate for rate in plain])


def test_the_shared_anchor_is_shared_with_an_adapter_too() -> None:
    """Whatever its rate, it is one for all seeds and all recipes."""
    anchors = {adapted_nodes(name)[0].digest for name in ("dpo-beta0.1", "dpo-beta0.5", "dpo-soft-reference")}
    assert len(anchors) == 1
