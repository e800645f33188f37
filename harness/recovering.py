"""A trial's final checkpoint once more: from the cache, or trained again as bench.toml says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from harness import store
from harness.agenda import training
from harness.cache import cache_root, node_folder
from harness.engines.graph import TrainNode
from harness.engines.local import CHECKPOINT
from harness.errors import HarnessError
from harness.ground import Say, lay_ground
from harness.recipes.registry import choose
from harness.recipes.sft import ANCHOR
from harness.records import Ledger, TrainStep
from harness.resolution import refuse_other_contents
from harness.settings import BenchFile, Resolved
from harness.trials import engine_for, plan_bench
from models.checkpoint import load_checkpoint
from models.decoder import Decoder
from models.failure import ModelError
from models.lora import parse_lora
from models.low_rank import with_adapter
from models.sources import find_model
from models.tokens import Tokens


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """A trial's policy in float32, frozen."""

    policy: Decoder  # with its adapter, where it has one
    tokens: Tokens
    retrained: bool = False
    same_log: bool = True  # trained again, it went the same way step by step, to the last digit


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """Looks for the checkpoint of one trial of a run: "anchor" or RECIPE@SEED."""

    folder: Path  # the run's
    bench: BenchFile
    trial: str
    say: Say
    begin: Callable[[str], None]  # a phase begins
    foreign_refused: str = ""  # why a model that transformers computes is not recovered; empty where it is

    def find(self) -> Recovered:
        """The policy; HarnessError or ModelError where model or data are no longer what they were."""
        if self.bench.resolved is None:
            raise HarnessError(f"{self.folder / 'bench.toml'} has no [resolved]: bring the file that the run wrote")
        self.begin("reading the model")
        source = find_model(self.bench.asked.model, cache_root(), self.say)
        refuse_other_contents(self.bench, {"model": source.digest})
        if source.adapted and self.foreign_refused:
            raise HarnessError(self.foreign_refused)
        model, tokens = source.load()
        checkpoint = self._kept()
        if checkpoint is not None:
            adapter = self.bench.asked.adapter
            hollow = with_adapter(model, parse_lora(adapter)) if adapter else model.hollow()
            try:
                return Recovered(policy=load_checkpoint(hollow, checkpoint), tokens=tokens)
            except ModelError as error:
                self.say(str(error))
        return self._train()

    def _kept(self) -> Path | None:
        """Where the cache has it, by the digest that the run's records give it: whatever code trained it."""
        digest = self._digest()
        path = node_folder(cache_root(), digest) / CHECKPOINT if digest else None
        return path if path is not None and path.exists() else None

    def _digest(self) -> str | None:
        """Of the trial's last stage; of the anchor's, which is the first stage of the recipes that begin with it."""
        if self.trial != "anchor":
            return store.read_json(self._records / "ledger.json", Ledger).stages[-1].digest
        for choice in choose(self._resolved.recipes):
            begins_there = len(choice.stages) > 1 and choice.stages[0] == ANCHOR
            for path in sorted((self.folder / "trials").glob(f"{choice.name}@*/ledger.json")) if begins_there else ():
                return store.read_json(path, Ledger).stages[0].digest
        return None

    def _train(self) -> Recovered:
        """All of its stages that the cache has not, by the digests that the plan gives them."""
        resolved, bench, root = self._resolved, self.bench, cache_root()
        torch.set_num_threads(resolved.threads)
        ground = lay_ground(bench.asked, root, self.say)
        refuse_other_contents(bench, {"data": ground.dataset.digest})
        plan = plan_bench(resolved, ground, choose(bench.recipes), bench.seeds)
        trained: list[TrainNode] = []

        def on_stage(node: TrainNode) -> None:
            if not trained:
                self.say(f"the cache no longer has the checkpoint of {self.trial}: it is trained again")
            trained.append(node)
            self.begin(training(node))

        engine = engine_for(plan, resolved, ground, root, on_stage=on_stage, on_step=lambda line: None, tell=self.say)
        nodes = next((trial.nodes for trial in plan.trials if trial.name == self.trial), (plan.anchor,))
        policy = engine.decoder(nodes[-1])  # first: a damaged checkpoint is trained again here, to a log of its own
        steps = tuple(step for node in nodes for step in engine.train(node).steps)
        recorded = store.read_jsonl(self._records / "train.jsonl", TrainStep)
        return Recovered(policy=policy, tokens=ground.tokens, retrained=bool(trained), same_log=steps == recorded)

    @property
    def _records(self) -> Path:
        return self.folder / "anchor" if self.trial == "anchor" else self.folder / "trials" / self.trial

    @property
    def _resolved(self) -> Resolved:
        assert self.bench.resolved is not None, "find looks at that first"
        return self.bench.resolved
