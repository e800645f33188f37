"""Checkpoints on the way are scored as trials are, on few prompts; the anchor against itself wins nothing."""

from __future__ import annotations

import pytest

from evals.completions import complete
from evals.judges.rule import LengthRule
from evals.rewards import measure_pairs
from evals.score import Evidence
from evals.waypoints import Few, Seen, anchor_itself, choose_few, observe, score_waypoint
from harness.records import Gold, Waypoint
from models.decoder import Decoder
from models.language_model import LanguageModel
from models.tokens import Tokens
from tests.tiny import text_pairs

PAIRS = text_pairs(60)
LIMIT = 5


class Server(LengthRule):
    """A judge whose every answer costs a request."""

    name = "ollama:big"


@pytest.fixture
def anchor(tiny_model: tuple[Decoder, Tokens]) -> LanguageModel:
    decoder, tokens = tiny_model
    return LanguageModel(decoder=decoder, tokens=tokens, dtype=decoder.embedding.weight.dtype)


def scored(anchor: LanguageModel, few: Few, judges: tuple[LengthRule, ...] = ()) -> Waypoint:
    """The anchor as if it were a checkpoint on the way."""
    theirs = Evidence(completions=complete(anchor, PAIRS, limit=LIMIT), samples=(), pairs=measure_pairs(anchor, PAIRS))
    seen = Seen(step=3, spent=0.5, evidence=observe(anchor, anchor, few, limit=LIMIT, seed=0))
    golds = {pair.prompt_id: Gold(kind="number", answers=("7",)) for pair in PAIRS}
    return score_waypoint(seen, theirs, few, judges, golds, anchor.tokens)


@pytest.mark.parametrize(("held_out", "asked"), [(2, 2), (6, 4), (24, 4), (80, 8), (240, 24), (1000, 24)])
def test_a_tenth_of_the_prompts_is_asked(held_out: int, asked: int) -> None:
    """Four at least, or all there are, and 24 at most: always the first ones."""
    prompts = text_pairs(held_out)
    few = choose_few(prompts, prompts)
    assert few.prompts == few.pairs == tuple(prompts[:asked])


def test_only_pairs_of_the_asked_prompts_are_read() -> None:
    """So that every metric is of the same prompts."""
    few = choose_few(PAIRS[10:50], PAIRS)
    assert {pair.prompt_id for pair in few.pairs} == {pair.prompt_id for pair in few.prompts}


def test_the_anchor_on_its_own_way_is_the_anchor_itself(anchor: LanguageModel) -> None:
    """Measured or known beforehand: no KL, every outcome even."""
    found = scored(anchor, choose_few(PAIRS[20:], PAIRS), (LengthRule(),))
    known = anchor_itself(found)
    assert set(found.scores) == {"kl_nats", "reward_accuracy", "gold_win_rate", "win_rate[rule:length]"}
    assert {name: found.scores[name].value for name in found.scores} == pytest.approx(
        {name: score.value for name, score in known.scores.items()}, abs=1e-6
    )
    assert (known.step, known.spent, set(known.per_prompt)) == (0, 0.0, set(found.per_prompt))


def test_a_server_is_not_asked_on_the_way(anchor: LanguageModel) -> None:
    """Only judges that answer in process cost little enough."""
    found = scored(anchor, choose_few(PAIRS[:40], PAIRS[:40]), (Server(), LengthRule()))
    assert [name for name in found.scores if name.startswith("win_rate")] == ["win_rate[rule:length]"]
