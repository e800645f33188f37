"""The judges of a bench, found by name; and the conductor of `judge`, which qualifies them and trains nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from evals.judges.attacks import attack_win_rates
from evals.judges.memory import Costly, Remembering
from evals.judges.probe import Probe
from evals.judges.protocol import Judge
from evals.judges.qualification import qualify
from evals.judges.registry import make_judge
from evals.judges.stranger import Make
from evals.judges.zeroshot import ZeroShot
from harness import store
from harness.agenda import fitting, qualifying
from harness.cache import cache_root
from harness.errors import HarnessError
from harness.ground import Ground, Say, lay_ground
from harness.phases import Phases
from harness.records import JudgeCard, Pair, Score
from harness.resolution import settle_dtype
from harness.settings import Asked, BenchFile
from harness.shelf import Shelf
from models.language_model import LanguageModel
from models.room import Rooms
from models.sources import find_model
from reports.judges import print_attacks, print_card

ATTACKED_PAIRS = 32  # at most: a judge is asked all attacks on each, some seventy in both orders
Attacks = Mapping[str, Score]  # attack → how often it beats the chosen responses


@dataclass(frozen=True, kw_only=True)
class JudgeCommand:
    """What `judge` was asked for on the command line."""

    asked: Asked  # the settings of a bench, of which the card needs some
    attacks: bool = False
    out: Path | None = None

    def carry_out(self, console: Console, progress: Console) -> int:
        """Fit, qualify, show and write; 0 if all are qualified, else 1. The user's mistakes are raised before that."""
        self._refuse_nonsense()
        with Phases(progress) as phases:
            phases.begin("reading the model and the data")
            root = cache_root()
            ground = lay_ground(self.asked, root, phases.say)
            dtype = settle_dtype(BenchFile(asked=self.asked), ground.device)
            rooms = Rooms.telling(phases.say)
            judges = [find_judge(spec, ground, dtype, root, phases.say, rooms) for spec in self.asked.judges]
            phases.say(ground.dataset.reading)
            measured = [self._measure(judge, ground, phases) for judge in judges]
        for card, attacks in measured:
            print_card(card, console)
            if attacks is not None:
                print_attacks(card, attacks, console)
        if self.out is not None:
            store.write_json(self.out, _document(ground, measured))
            console.print(f"cards in {self.out}", markup=False, highlight=False, soft_wrap=True)
        return 0 if all(card.qualified for card, _ in measured) else 1

    def _refuse_nonsense(self) -> None:
        if self.out is not None and self.out.is_dir():
            raise HarnessError(f"--out {self.out} is a folder: name a file")

    def _measure(self, judge: Judge, ground: Ground, phases: Phases) -> tuple[JudgeCard, Attacks | None]:
        """The judge's card, and how the attacks fared where they were asked for."""
        if isinstance(judge, Probe):
            phases.begin(fitting(judge.name))
            judge.fit(ground.splits.judge, seed=0)
        pairs = qualifying_pairs(ground)
        card = qualify(judge, pairs, seed=0, tell=lambda part: phases.begin(f"{qualifying(judge.name)}: {part}"))
        if not self.attacks:
            return card, None
        phases.begin(f"attacking judge {judge.name}")
        return card, attack_win_rates(judge, pairs[:ATTACKED_PAIRS])


def find_judge(spec: str, ground: Ground, dtype: torch.dtype, root: Path, say: Say, rooms: Rooms) -> Judge:
    """The judge, its server asked already; a probe is fitted when it is first needed. What costs is remembered."""

    def read(source: str | None) -> tuple[LanguageModel, str]:
        found = find_model(source or "smollm2-135m", root, say)
        model, tokens = (ground.model, ground.tokens) if found == ground.source else found.load()
        reader = LanguageModel.of(model.to(ground.device), tokens, dtype, rooms)
        return reader, f"{found.name} (sha256 {found.digest[:12]}…)"

    if spec == "rule:gold" and not ground.golds:
        raise HarnessError(
            f"judge 'rule:gold' needs data that knows the truth, and {ground.dataset.name!r} does not: --judge probe"
        )
    own: dict[str, Make] = {
        "probe": lambda source: Probe(*read(source), name=spec),
        "lm": lambda source: ZeroShot(*read(source), name=spec),
    }
    judge = make_judge(spec, own=own)
    return Remembering(judge, Shelf(root, judge.description)) if isinstance(judge, Costly) else judge


def qualifying_pairs(ground: Ground) -> tuple[Pair, ...]:
    """The held-out labelled pairs that every judge is measured on, as many as there are prompts to be judged."""
    return ground.labelled[: len(ground.held_out)]


def _document(ground: Ground, measured: list[tuple[JudgeCard, Attacks | None]]) -> dict[str, Any]:
    """The cards as plain data, and what they were measured on."""
    cards = [
        {
            **dataclasses.asdict(card),
            "qualified": card.qualified,
            **({} if attacks is None else {"attacks": {name: dataclasses.asdict(s) for name, s in attacks.items()}}),
        }
        for card, attacks in measured
    ]
    data = {"name": ground.dataset.name, "digest": ground.dataset.digest, "pairs": len(qualifying_pairs(ground))}
    return {"schema": 1, "data": data, "judges": cards}
