"""Runs a graph's nodes one after another on this machine. A finished node is never computed twice."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from filelock import FileLock

from harness import store
from harness.cache import node_folder
from harness.engines.charge import stage_ledger
from harness.engines.graph import ReferenceNode, TrainNode
from harness.errors import HarnessError
from harness.records import StageLedger, TrainStep
from harness.training.plan import StagePlan, Terms
from harness.training.reference import Frozen, Moving, ReferenceLogps, pair_logps
from harness.training.train import Execution, Spent, all_or_nothing, train_stage
from models.checkpoint import load_checkpoint, save_checkpoint
from models.decoder import Decoder
from models.failure import ModelError
from models.language_model import read_in_parts
from models.low_rank import own_weights
from models.packing import Row

CHECKPOINT, LOG, LEDGER, TABLE = "checkpoint.safetensors", "train.jsonl", "ledger.json", "logps.json"
MIDWAY = "midway"  # a folder in a node's: weights on the way, until somebody has read them


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
    """One process, one device."""

    cache: Path
    terms: Terms
    execution: Execution
    fresh: Callable[[], Decoder]  # the model's own weights in float32 on the device, as the first policy
    hollow: Callable[[], Decoder]  # the same, to be given a checkpoint's weights
    device: torch.device
    on_stage: Callable[[TrainNode], None]
    on_step: Callable[[TrainStep], None]

    def train(self, node: TrainNode, *, midway: bool = False) -> Trained:
        """The node's results, computed now if the cache does not hold them; with `midway`, `midpoints` are kept then.

        They are three more checkpoints, so they are kept only for who will read them.
        """
        if node.parent is not None:
            self.train(node.parent)
        folder = node_folder(self.cache, node.digest)
        with _lock(folder):
            if (trained := _read(folder)) is None:
                self.on_stage(node)
                _fill(folder, lambda new: self._train(node, new, node.plan.midway if midway else ()))
                trained = _read(folder)
        assert trained is not None
        return trained

    @contextlib.contextmanager
    def midpoints(self, node: TrainNode) -> Iterator[Mapping[int, Path]]:
        """The checkpoints after each step of the plan's `midway`; gone on leaving, but kept if that is by an error.

        Where the cache has the node without them, the stage is trained again up to the last, to the same weights.
        """
        folder = self.train(node, midway=True).checkpoint.parent / MIDWAY
        paths = _midpoints(folder, node.plan.midway)
        with _lock(folder):
            if not all(path.exists() for path in paths.values()):
                self.on_stage(node)
                _fill(folder, lambda new: self._train_midway(node, new))
            yield paths
            shutil.rmtree(folder, ignore_errors=True)

    def decoder(self, node: TrainNode | None) -> Decoder:
        """A node's policy in float32, or the model itself. A checkpoint that is damaged is made again."""
        if node is None:
            return self.fresh()
        checkpoint = self.train(node).checkpoint
        try:
            return self.restore(checkpoint)
        except ModelError:
            shutil.rmtree(checkpoint.parent, ignore_errors=True)
            return self.restore(self.train(node).checkpoint)

    def restore(self, checkpoint: Path) -> Decoder:
        """A checkpoint's policy, frozen, in float32 on the device. Adapters share the one base of this process."""
        return load_checkpoint(self.hollow(), checkpoint).to(self.device)

    def _train(self, node: TrainNode, folder: Path, midway: tuple[int, ...]) -> None:
        table, policy = self._table(node), self.decoder(node.parent)
        spent = self._spend(node, node.plan, policy, table, _midpoints(folder / MIDWAY, midway))
        save_checkpoint(policy, folder / CHECKPOINT)
        store.write_jsonl(folder / LOG, spent.steps)
        seconds = spent.device_seconds + (table.seconds if table is not None else 0.0)
        store.write_json(folder / LEDGER, stage_ledger(self.terms, node, seconds, spent.peak_bytes))

    def _train_midway(self, node: TrainNode, folder: Path) -> None:
        """The stage once more, for its weights on the way alone."""
        paths = _midpoints(folder, node.plan.midway)
        plan = replace(node.plan, steps=node.plan.steps[: max(paths)])
        self._spend(node, plan, self.decoder(node.parent), self._table(node), paths)

    def _table(self, node: TrainNode) -> ReferenceTable | None:
        return self.reference(node.reference) if node.reference is not None else None

    def _spend(
        self, node: TrainNode, plan: StagePlan, policy: Decoder, table: ReferenceTable | None, keep: Mapping[int, Path]
    ) -> Spent:
        """Train the policy in place. Weights are written between steps, so no step's time has that in it."""
        reference: ReferenceLogps | None = None
        if table is not None:
            reference = Frozen(table.logps, self.device)
        elif node.stage.reference.moves:
            reference = Moving(policy, self.execution.dtype, mixes=plan.alpha != 1)

        def on_step(line: TrainStep) -> None:
            if line.step in keep:
                keep[line.step].parent.mkdir(exist_ok=True)
                save_checkpoint(policy, keep[line.step])
            self.on_step(line)

        rows = self.terms.rows(node.stage)
        if node.parent is not None:
            all_or_nothing(lambda: take_in(policy), "the checkpoint to begin with", policy)
        return train_stage(
            policy, node.stage, plan, rows, reference, self.execution, number=node.number, on_step=on_step
        )

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

        def read(part: list[Row]) -> list[list[float]]:
            values: list[list[float]] = pair_logps(decoder, part, self.execution.dtype).tolist()
            return values

        for part, values in read_in_parts(rows, self.execution.room, read, "a batch of the reference"):
            logps |= {node.pairs[i]: (chosen, rejected) for i, (chosen, rejected) in zip(part, values, strict=True)}
        store.write_json(folder / TABLE, ReferenceTable(logps=logps, seconds=time.perf_counter() - started))


def take_in(policy: Decoder) -> Decoder:
    """Copy what is to be trained from a checkpoint's file, whose pages are dear to write to one by one."""
    if policy.device.type == "cpu":
        for weight in own_weights(policy).values():
            weight.data = weight.data.clone()
    return policy


def _midpoints(folder: Path, steps: tuple[int, ...]) -> dict[int, Path]:
    """Where the weights after each of these steps lie."""
    return {step: folder / f"{step}.safetensors" for step in steps}


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
