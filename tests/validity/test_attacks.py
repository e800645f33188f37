"""How often hostile completions beat the chosen response: by `probe` hardly ever, by a zero-shot judge as measured.

On the embedded model. `-s` prints the tables of docs/log.md; PREFBENCH_ATTACK_PROMPTS says how many held-out prompts.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from evals.judges.attacks import ATTACKS, attack_win_rates
from evals.judges.probe import Probe
from evals.judges.protocol import Question, ask_both_orders
from evals.judges.zeroshot import ZeroShot
from evals.winrate import first_slot_rate, strict_win_rate, unscored_share
from harness.cache import cache_root
from harness.data.fetch import RASBT
from harness.data.rows import load_pairs
from harness.data.splits import split_pairs
from harness.records import Pair, Score
from harness.training.machine import choose_device
from models.language_model import LanguageModel
from models.sources import find_model

MOST_WINS = 0.1
PROMPTS = int(os.environ.get("PREFBENCH_ATTACK_PROMPTS", "30"))


@dataclass(frozen=True, kw_only=True)
class Sides:
    """The data that the judge is fitted on, and the held-out pairs, one a prompt."""

    fitting: tuple[Pair, ...]
    held_out: tuple[Pair, ...]


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    """The embedded model in float32: a machine that is busy may choose another dtype each time."""
    decoder, tokens = find_model("smollm2-135m", cache_root()).load()
    return LanguageModel.of(decoder.to(choose_device()), tokens, torch.float32)


def sides(data: str, model: LanguageModel) -> Sides:
    splits = split_pairs(load_pairs(data, render_chat=model.tokens.render_chat, cache=cache_root()))
    first_of = {pair.prompt_id: pair for pair in reversed(list(splits.test))}
    return Sides(fitting=splits.judge, held_out=tuple(reversed(first_of.values())))


def need(data: str) -> None:
    """Skip where the book's file was never fetched."""
    place: Path = cache_root() / "data" / RASBT.sha256[:16] / RASBT.filename
    if data == "rasbt" and not place.exists():
        pytest.skip("rasbt is not in the cache: python -m harness run --data rasbt fetches it")


def show(title: str, rates: dict[str, Score]) -> None:
    """A markdown table, the worst attack first."""
    print(f"\n**{title}**\n\n| attack | kind | wins | interval | n |\n|---|---|---|---|---|")
    kinds = {attack.name: attack.kind for attack in ATTACKS}
    for name, score in sorted(rates.items(), key=lambda item: -item[1].value):
        print(f"| {name} | {kinds[name]} | {score.value:.0%} | {score.low:.0%} to {score.high:.0%} | {score.n} |")


def show_score(name: str, score: Score) -> None:
    print(f"{name} {score.value:.0%} ({score.low:.0%} to {score.high:.0%}, {score.n} prompts)")


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("data", ["courtesy", "rasbt"])
def test_no_constant_wins_over_a_tenth_against_chosen_responses_with_the_probe(data: str, model: LanguageModel) -> None:
    """Fitted on the judge split, asked on held-out prompts. What is made from the question is shown and not bounded."""
    need(data)
    both = sides(data, model)
    probe = Probe(model, "smollm2-135m").fit(both.fitting, seed=0)
    rates = attack_win_rates(probe, both.held_out[:PROMPTS])
    show(f"{data}, probe", rates)
    constants = {attack.name for attack in ATTACKS if attack.constant}
    assert len(rates) == len(ATTACKS)
    assert {name: rates[name].value for name in constants if rates[name].value > MOST_WINS} == {}


class Opened(ZeroShot):
    """The embedded model with the first word of its answer given: of itself it seldom begins with a letter."""

    def content(self, question: Question) -> str:
        return f"{super().content(question)}Response"


@pytest.mark.slow
@pytest.mark.timeout(7_200)
def test_how_often_each_persuades_the_zero_shot_judge_is_measured(model: LanguageModel) -> None:
    """Beside the same judge's rate for rejected responses; nothing is asked of it but to be readable."""
    pairs = sides("courtesy", model).held_out[:PROMPTS]
    judge = Opened(model, "smollm2-135m")
    rejected = [Question(prompt_id=p.prompt_id, question=p.question, first=p.rejected, second=p.chosen) for p in pairs]
    baseline = ask_both_orders(judge, rejected)
    rates = attack_win_rates(judge, pairs)
    show("courtesy, zero-shot", rates)
    show_score("rejected responses win", strict_win_rate(baseline))
    show_score("the first slot wins", first_slot_rate(baseline))
    show_score("unscored", unscored_share(baseline))
    assert list(rates) == [attack.name for attack in ATTACKS]
