"""What was seen of trials on their way, kept in the cache beside their nodes: the weights themselves go once read.

Training does not know of it. What was seen hangs on no judge and on few prompts, so most other benches find it again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from evals.waypoints import Few, Seen, choose_few, observe
from harness import store
from harness.cache import node_folder
from harness.engines.graph import TrainNode
from harness.engines.local import LocalEngine
from harness.ground import Ground
from harness.records import Waypoint
from models.language_model import LanguageModel
from models.room import Rooms

WAYPOINTS = "waypoints.jsonl"


@dataclass(frozen=True, kw_only=True)
class Way:
    """Trains trials so that their checkpoints on the way can be seen, and looks at them."""

    engine: LocalEngine
    ground: Ground
    dtype: torch.dtype
    limit: int  # tokens of a completion
    seed: int  # of the draws that seed 0 samples with
    stamp: str  # digest of the anchor's checkpoint and of the code that measures
    anchor: Callable[[], LanguageModel]
    on_look: Callable[[], None]  # called before checkpoints are measured
    rooms: Rooms = field(default_factory=Rooms)

    @property
    def few(self) -> Few:
        """What is asked of every checkpoint on the way."""
        return choose_few(self.ground.held_out, self.ground.labelled)

    def is_ahead(self, node: TrainNode, seed: int, folder: Path) -> bool:
        """Whether the trial of this folder has still to be seen on its way."""
        return not ((folder / WAYPOINTS).exists() or self._kept(node, seed).exists())

    def see(self, node: TrainNode, seed: int) -> tuple[Seen, ...]:
        """What the checkpoints midway through the node wrote and read, from the cache if it has that."""
        path = self._kept(node, seed)
        if not path.exists():
            with self.engine.midpoints(node) as checkpoints:
                self.on_look()
                found = [self._look(node, step, file, seed) for step, file in checkpoints.items()]
                store.write_jsonl(path, found)
        return store.read_jsonl(path, Seen)

    def _look(self, node: TrainNode, step: int, file: Path, seed: int) -> Seen:
        policy = LanguageModel.of(self.engine.restore(file), self.ground.tokens, self.dtype, self.rooms)
        evidence = observe(policy, self.anchor(), self.few, limit=self.limit, seed=self.seed + seed)
        return Seen(step=step, spent=node.plan.steps[step - 1].spent_after, evidence=evidence)

    def _kept(self, node: TrainNode, seed: int) -> Path:
        few = self.few
        asked = [(pair.prompt_id, pair.prompt, pair.chosen, pair.rejected) for pair in (*few.prompts, *few.pairs)]
        made_of = store.digest(self.stamp, asked, self.limit, self.seed + seed)
        return node_folder(self.engine.cache, node.digest) / f"way-{made_of[:16]}.jsonl"


def read_waypoints(folder: Path) -> tuple[Waypoint, ...]:
    """Those of a trial's folder."""
    return store.read_jsonl(folder / WAYPOINTS, Waypoint)
