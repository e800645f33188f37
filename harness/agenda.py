"""What a session has still to do: the stages that are not in the cache, and the files that are not in their folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.cache import node_folder
from harness.engines.graph import TrainNode
from harness.events import Part
from harness.training.plan import MIDWAY

DOING = {
    "completions.jsonl": "writing completions",
    "samples.jsonl": "sampling and measuring KL",
    "pairs.jsonl": "reading held-out pairs",
    "verdicts.jsonl": "judging",
    "waypoints.jsonl": "scoring the way there",
}


def training(node: TrainNode) -> str:
    """What the phase is called in which a stage is trained."""
    return f"training, {node.stage.objective.name}"


def fitting(judge: str) -> str:
    """The same of a judge's fitting."""
    return f"fitting judge {judge}"


def qualifying(judge: str) -> str:
    """And of its qualification."""
    return f"qualifying judge {judge}"


class Agenda:
    """Asked in the order of the bench: what several trials share is work for the first of them."""

    def __init__(self, cache: Path, *, prompts: int, pairs: int, judges: int, few: int = 0) -> None:
        self.cache = cache
        self._amounts = {
            "completions.jsonl": (prompts, "prompts"),
            "samples.jsonl": (prompts, "prompts"),
            "pairs.jsonl": (pairs, "pairs"),
            "verdicts.jsonl": (prompts * judges, "verdicts"),
            "waypoints.jsonl": (len(MIDWAY) * few, "prompts"),
        }
        self._promised: set[str] = set()  # digests of what an earlier part makes

    def parts(self, nodes: Iterable[TrainNode], folder: Path, names: Iterable[str]) -> tuple[Part, ...]:
        """What is left of one trial: of its training, and of the files in its folder that take measuring."""
        return (*self._stages(nodes), *self._files(folder, names))

    def _stages(self, nodes: Iterable[TrainNode]) -> Iterator[Part]:
        for node in nodes:
            if self._is_new(node.digest):
                yield Part(what=training(node), work=self._flops(node), unit="FLOP")

    def _files(self, folder: Path, names: Iterable[str]) -> Iterator[Part]:
        for name in names:
            if name in DOING and not (folder / name).exists():
                work, unit = self._amounts[name]
                yield Part(what=DOING[name], work=work, unit=unit)

    def _flops(self, node: TrainNode) -> float:
        """Of a stage; a frozen reference's pass is a part of it for the first that reads it."""
        cost = node.plan.cost
        passed = node.reference is not None and not self._is_new(node.reference.digest)
        return cost.total - (cost.reference if passed else 0.0)

    def _is_new(self, digest: str) -> bool:
        """Whether neither the cache nor an earlier part has it; from now on one has."""
        new = digest not in self._promised and not node_folder(self.cache, digest).exists()
        self._promised.add(digest)
        return new
