"""The embedded judge reads responses in any company alike, learns what it is shown, and has no favourite slot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from evals.judges.probe import Probe, as_prompt, response_features
from evals.judges.protocol import Question
from harness.cache import cache_root
from harness.errors import HarnessError
from harness.records import Pair
from models.decoder import Decoder
from models.language_model import LanguageModel, make_row
from models.packing import Row
from models.sources import find_model
from models.tokens import Tokens
from tests.tiny import text_pairs

PAIRS = text_pairs(24)


@pytest.fixture(scope="module")
def model(tiny_model: tuple[Decoder, Tokens]) -> LanguageModel:
    return LanguageModel.of(*tiny_model, torch.float32)


@pytest.fixture(scope="module")
def probe(model: LanguageModel) -> Probe:
    """Fitted on pairs whose chosen responses are long and whose rejected ones end in 'whatever'."""
    return Probe(model, "tiny").fit(PAIRS[:16], seed=0)


def questions(pairs: list[Pair]) -> list[Question]:
    return [Question(prompt_id=p.prompt_id, question=p.question, first=p.chosen, second=p.rejected) for p in pairs]


def chances(probe: Probe, asked: list[Question]) -> list[float]:
    found = [opinion.p_first for opinion in probe.p_first_wins(asked)]
    assert all(p is not None for p in found)
    return [p for p in found if p is not None]


def rows(model: LanguageModel) -> list[Row]:
    texts = [(p.chosen, p.rejected, "Sure!") for p in PAIRS[:5]]
    asked = [make_row(model.tokens, as_prompt(p.question, model), t) for p, t in zip(PAIRS, texts, strict=False)]
    return [*asked, make_row(model.tokens, as_prompt("Hi", model), ("",))]  # a response of the end token alone


def test_what_it_was_fitted_on_it_ranks_right(probe: Probe) -> None:
    """Nearly all of the labelled pairs, even on a random model."""
    assert np.mean([p > 0.5 for p in chances(probe, questions(PAIRS[:16]))]) >= 0.9


def test_what_it_learned_holds_for_pairs_that_it_never_saw(probe: Probe) -> None:
    """The same manners on other prompts."""
    assert np.mean([p > 0.5 for p in chances(probe, questions(PAIRS[16:]))]) >= 0.75


def test_the_order_of_the_two_responses_does_not_matter(probe: Probe) -> None:
    """P(A beats B) and P(B beats A) add up to one."""
    asked = questions(PAIRS)
    for forth, back in zip(chances(probe, asked), chances(probe, [q.swap() for q in asked]), strict=True):
        assert forth + back == pytest.approx(1.0, abs=1e-12)


def test_a_response_against_itself_is_even(probe: Probe) -> None:
    """Exactly one half."""
    same = [replace(q, second=q.first) for q in questions(PAIRS)]
    assert set(chances(probe, same)) == {0.5}


def test_the_same_pairs_and_seed_give_the_same_judge(probe: Probe, model: LanguageModel) -> None:
    """Verdict for verdict."""
    again = Probe(model, "tiny").fit(PAIRS[:16], seed=0)
    assert chances(again, questions(PAIRS)) == chances(probe, questions(PAIRS))


def test_its_card_says_what_it_was_fitted_on(probe: Probe) -> None:
    """The model, the number of pairs and of contrasts."""
    for words in ("tiny", "16 labelled pairs", "contrasts"):
        assert words in probe.description


def test_all_features_are_numbers(model: LanguageModel) -> None:
    """Also of an empty response, and of one after a prompt of a few tokens."""
    found_RF = response_features(model, rows(model))
    assert len(found_RF) == 16
    assert np.isfinite(found_RF).all()


def test_features_do_not_depend_on_the_batch(model: LanguageModel) -> None:
    """Alone, in another order or all together: the same response, the same features."""
    asked = rows(model)
    together = response_features(model, asked)
    alone = np.concatenate([response_features(model, [row]) for row in asked])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)


def test_features_do_not_depend_on_the_other_responses(model: LanguageModel) -> None:
    """The responses to one prompt share a row, and what they begin with, and cannot see each other."""
    prompt, *_ = [row.prompt for row in rows(model)]
    alike = [((4, 5, 6), (4, 5, 7, 8)), ((4, 5), (4, 5, 6, 7)), ((4, 5, 6), (4, 5), (4, 7)), ((4, 5), (4, 5))]
    for responses in (rows(model)[0].responses, *alike):
        apart = [response_features(model, [Row(prompt=prompt, responses=(y,))])[0] for y in responses]
        together = response_features(model, [Row(prompt=prompt, responses=responses)])
        np.testing.assert_allclose(together, np.stack(apart), rtol=1e-4, atol=1e-4)


def test_features_know_the_prompt(model: LanguageModel) -> None:
    """The same words in answer to another question are another response."""
    first, second = (
        response_features(model, [make_row(model.tokens, as_prompt(q, model), ("It is 7.",))])
        for q in ("3 + 4?", "Why?")
    )
    assert not np.allclose(first, second, atol=1e-3)


def test_a_verdict_does_not_depend_on_the_others_asked(probe: Probe, model: LanguageModel) -> None:
    """One question at a time, by a judge that has read nothing else since it was fitted."""
    together = chances(probe, questions(PAIRS[16:]))
    fresh = Probe(model, "tiny").fit(PAIRS[:16], seed=0)
    alone = [chances(fresh, [q])[0] for q in questions(PAIRS[16:])]
    assert alone == pytest.approx(together, abs=1e-3)


def test_a_question_is_put_in_the_judges_own_template(model: LanguageModel) -> None:
    """Chat where it has one, plain words where it has none."""
    plain = replace(model, tokens=replace(model.tokens, chat_template=None))
    assert "<|im_start|>" in as_prompt("Why?", model)
    assert as_prompt("Why?", plain) == "Question: Why?\nAnswer: "


@pytest.mark.slow
def test_the_real_probe_knows_right_sums_from_wrong_ones() -> None:
    """On the embedded model, held-out sums and manners: far above chance."""
    real = LanguageModel.of(*find_model("smollm2-135m", cache_root()).load(), torch.float32)
    pairs = text_pairs(80)
    probe = Probe(real, "smollm2-135m").fit(pairs[:60], seed=0)
    assert np.mean([p > 0.5 for p in chances(probe, questions(pairs[60:]))]) >= 0.9


def test_a_saved_probe_says_the_same(probe: Probe, model: LanguageModel, tmp_path: Path) -> None:
    """To the last bit, and of itself too: a continued run need not fit it again."""
    probe.save(tmp_path / "probe.safetensors")
    again = Probe(model, "tiny")
    again.restore(tmp_path / "probe.safetensors")
    assert (chances(again, questions(PAIRS)), again.description) == (
        chances(probe, questions(PAIRS)),
        probe.description,
    )


def test_a_damaged_head_is_one_line(model: LanguageModel, tmp_path: Path) -> None:
    """It names the file."""
    path = tmp_path / "probe.safetensors"
    path.write_bytes(b"{}")
    with pytest.raises(HarnessError, match=r"probe\.safetensors is damaged .*: delete it and run again"):
        Probe(model, "tiny").restore(path)


def test_what_the_judge_cannot_read_whole_is_one_line(probe: Probe) -> None:
    """Its own context counts, not the policy's."""
    long = Question(prompt_id="p", question="Why?", first="because " * 300, second="so")
    with pytest.raises(HarnessError, match=r"judge 'probe' reads at most 2,048 tokens, and 'Why\?' takes"):
        probe.p_first_wins([long])
