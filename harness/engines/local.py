"""Runs a graph's nodes one after another on this machine. A finished node is never computed twice."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock

from harness import store
from harness.cache import node_folder
from harness.engines.graph import ReferenceNode, TrainNode
from harness.errors import HarnessError
from harness.records import StageLedger, TrainStep
from harness.training.budget import useful_tokens
from harness.training.plan import Terms
from harness.training.reference import Frozen, Moving, ReferenceLogps, pair_logps
from harness.training.train import Execution, train_stage
from models.architecture import Architecture
from models.decoder import Decoder
from models.failure import ModelError
from models.language_model import batches
from models.weights import load_checkpoint, save_checkpoint

CHECKPOINT, LOG, LEDGER, TABLE = "checkpoint.safetensors", "train.jsonl", "ledger.json", "logps.json"


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a stage left: where its weights are, its log, its cost."""

    checkpoint: Path
    steps: tuple[TrainStep, ...]
    ledger: StageLedger


@dataclass(frozen=True, kw_only=True)
class ReferenceTable:
    """Log-probs of training pairs, nats by pair, and the device seconds that they took."""

    logps: dict[int, tuple[float, float]]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class LocalEngine:
    """One process, one device. `fresh` gives the model's own weights in float32 on the device."""

    cache: Path
    terms: Terms
    execution: Execution
    fresh: Callable[[], Decoder]
    device: torch.device
    on_stage: Callable[[TrainNode], None]
    on_step: Callable[[TrainStep], None]

    def train(self, node: TrainNode) -> Trained:
        """The node's results, computed now if the cache does not hold them."""
        if node.parent is not None:
            self.train(node.parent)
        folder = node_folder(self.cache, node.digest)
        with _lock(folder):
            if (trained := _read(folder)) is None:
                self.on_stage(node)
                _fill(folder, lambda new: self._train(node, new))
                trained = _read(folder)
        assert trained is not None
        return trained

    def decoder(self, node: TrainNode | None) -> Decoder:
        """A node's policy in float32, or the model itself. A checkpoint that is damaged is made again."""
        if node is None:
            return self.fresh()
        checkpoint = self.train(node).checkpoint
        try:
            return load_policy(self.terms.architecture, checkpoint, self.device)
        except ModelError:
            shutil.rmtree(checkpoint.parent, ignore_errors=True)
            return load_policy(self.terms.architecture, self.train(node).checkpoint, self.device)

    def _train(self, node: TrainNode, folder: Path) -> None:
        table = self.reference(node.reference) if node.reference is not None else None
        policy = self.decoder(node.parent)
        reference: ReferenceLogps | None = None
        if table is not None:
            reference = Frozen(table.logps, self.device)
        elif node.stage.reference.moves:
            reference = Moving(policy, self.execution.dtype)
        spent = train_stage(
            policy,
            node.stage,
            node.plan,
            self.terms.rows(node.stage),
            reference,
            self.execution,
            number=node.number,
            on_step=self.on_step,
        )
        save_checkpoint(policy, folder / CHECKPOINT)
        store.write_jsonl(folder / LOG, spent.steps)
        seconds = spent.device_seconds + (table.seconds if table is not None else 0.0)
        store.write_json(folder / LEDGER, stage_ledger(self.terms, node, seconds, spent.peak_bytes))

    def reference(self, node: ReferenceNode) -> ReferenceTable:
        """The node's log-probs, computed now if the cache does not hold them."""
        folder = node_folder(self.cache, node.digest)
        with _lock(folder):
            try:
                return store.read_json(folder / TABLE, ReferenceTable)
            except HarnessError:  # not there, or damaged
                _fill(folder, lambda new: self._pass_reference(node, new))
                return store.read_json(folder / TABLE, ReferenceTable)

    def _pass_reference(self, node: ReferenceNode, folder: Path) -> None:
        decoder = self.decoder(node.checkpoint)
        started = time.perf_counter()
        rows = [self.terms.pair_rows[i] for i in node.pairs]
        logps: dict[int, tuple[float, float]] = {}
        for part in batches(rows, self.execution.micro_batch_tokens):
            values = pair_logps(decoder, [rows[i] for i in part], self.execution.dtype).tolist()
            logps |= {node.pairs[i]: (chosen, rejected) for i, (chosen, rejected) in zip(part, values, strict=True)}
        store.write_json(folder / TABLE, ReferenceTable(logps=logps, seconds=time.perf_counter() - started))


def load_policy(architecture: Architecture, checkpoint: Path, device: torch.device) -> Decoder:
    """A checkpoint's decoder, frozen, in float32 on the device."""
    return load_checkpoint(architecture, checkpoint).to(device)


def stage_ledger(terms: Terms, node: TrainNode, seconds: float, peak: int) -> StageLedger:
    """What a stage is charged, as if its trial ran alone."""
    plan, rows, cost = node.plan, terms.rows(node.stage), node.plan.cost
    consumed = [i for step in plan.steps for i in step.pairs]
    return StageLedger(
        objective=node.stage.objective.name,
        digest=node.digest,
        reference=node.stage.reference.kind,
        steps=len(plan.steps),
        pairs=len(consumed),
        distinct_pairs=len(plan.pairs),
        epochs=len(consumed) / len(rows),
        tokens=useful_tokens([rows[i] for i in consumed]),
        policy_flops=cost.policy,
        reference_flops=cost.reference,
        update_flops=cost.update,
        refresh_flops=cost.refresh,
        budget_flops=None if plan.in_pairs else plan.budget,
        reference_lag_steps=mean_lag(node),
        device_seconds=seconds,
        peak_memory_bytes=peak,
    )


def mean_lag(node: TrainNode) -> float | None:
    """Mean age in steps of the weights in a moving reference, over the stage: 0 would be the policy itself."""
    if not node.stage.reference.moves:
        return None
    age, total = 0.0, 0.0
    for step in node.plan.steps:
        total += age
        age += 1
        if step.refreshes:
            age *= 1 - node.plan.alpha
    return total / len(node.plan.steps)


def _lock(folder: Path) -> FileLock:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(folder.with_suffix(".lock"))


def _read(folder: Path) -> Trained | None:
    """A finished node's results; None where one of its files is missing or damaged."""
    try:
        steps, ledger = store.read_jsonl(folder / LOG, TrainStep), store.read_json(folder / LEDGER, StageLedger)
    except HarnessError:
        return None
    checkpoint = folder / CHECKPOINT
    whole = checkpoint.exists() and len(steps) == ledger.steps
    return Trained(checkpoint=checkpoint, steps=steps, ledger=ledger) if whole else None


def _fill(folder: Path, work: Callable[[Path], None]) -> None:
    """Let `work` fill a folder that appears whole or not at all."""
    if folder.exists():
        shutil.rmtree(folder)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as name:
        new = Path(name) / "node"
        new.mkdir()
        work(new)
        new.replace(folder)
