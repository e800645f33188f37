"""The answer says what the tests say: no more, and no less."""

from __future__ import annotations

import dataclasses

from reports.cautions import warnings
from reports.summary import answer
from tests.reports.conftest import Loaded
from tests.reports.fake_run import CORE, OPENING, Character, FakeRun

WITHOUT_GOLD = tuple(dataclasses.replace(c, gold=None) for c in CORE)
GAMER = Character(
    recipe="dpo-beta0.1",
    judged=0.98,
    gold=None,
    correct_change=None,
    length_ratio=1.46,
    opening=OPENING,
    opening_share=0.81,
)


def test_a_clear_winner_is_called_best_with_interval_n_and_kl(loaded: Loaded) -> None:
    winner = dataclasses.replace(CORE[2], gold=0.95)
    said = " ".join(answer(loaded(FakeRun(characters=(CORE[0], winner, CORE[4])))))
    assert "dpo-beta0.1 is best: it wins 95% (91% to 99%) of 128 held-out prompts against the anchor" in said
    assert "a KL of 7.40 nats" in said
    assert "dpo-beta0.1 is better than dpo-beta0.5 and sft (p < 0.05" in said


def test_a_highest_score_that_is_not_told_apart_is_not_called_best(loaded: Loaded) -> None:
    said = " ".join(answer(loaded(FakeRun())))
    assert "dpo-beta0.1 scores highest" in said
    assert "is better than sft" in said
    assert "cannot be told apart from dpo-beta0.05, dpo-beta0.3" in said
    assert "is best" not in said


def test_when_no_pair_differs_the_answer_says_so_once(loaded: Loaded) -> None:
    said = " ".join(answer(loaded(FakeRun(significant=0.5))))
    assert "No two of the 7 recipes can be told apart." in said
    assert "is better than" not in said


def test_nobody_beats_the_anchor_is_said_first(loaded: Loaded) -> None:
    level = tuple(dataclasses.replace(c, gold=0.5 + i / 100, judged=0.5) for i, c in enumerate(CORE, start=-4))
    first = answer(loaded(FakeRun(characters=level)))[0]
    assert first.startswith("No recipe is shown to beat the anchor. The highest, dpo-hard-reference, wins 52%")
    assert "that interval includes 50%" in first


def test_everybody_losing_is_not_called_undecided(loaded: Loaded) -> None:
    losers = tuple(dataclasses.replace(c, gold=0.2, judged=0.2) for c in CORE[:2])
    assert answer(loaded(FakeRun(characters=losers)))[0].startswith("Every recipe loses to the anchor.")


def test_one_recipe_is_compared_with_nothing(loaded: Loaded) -> None:
    said = " ".join(answer(loaded(FakeRun(characters=CORE[2:3]))))
    assert "is the only recipe scored" in said
    assert "told apart" not in said


def test_equal_scores_share_the_first_place(loaded: Loaded) -> None:
    level = tuple(dataclasses.replace(c, gold=0.7) for c in CORE[1:3])
    assert answer(loaded(FakeRun(characters=level)))[0].startswith(
        "dpo-beta0.05 and dpo-beta0.1 come out level at the top"
    )


def test_no_finished_trial_is_an_answer_too(loaded: Loaded) -> None:
    said = answer(loaded(FakeRun(characters=(), failed={"sft@1": "out of memory"})))
    assert said == ("No trial finished, so there is nothing to compare: see the warnings.",)


def test_without_gold_the_first_qualified_judge_decides_and_is_introduced(loaded: Loaded) -> None:
    first = answer(loaded(FakeRun(characters=WITHOUT_GOLD)))[0]
    assert "wins 76%" in first
    assert "by judge probe, which ranks 89% (86% to 92%) of labelled pairs rightly" in first


def test_an_unqualified_judge_never_decides(loaded: Loaded) -> None:
    said = answer(loaded(FakeRun(characters=WITHOUT_GOLD, qualified=False)))
    assert said[0].startswith("probe is not a qualified judge, so this rests on reward accuracy")
    assert "in 79% (72% to 86%) of the pairs of 128 held-out prompts" in said[1]
    assert "wins" not in said[1]


def test_a_win_by_length_and_opening_is_called_style_on_data_without_gold(loaded: Loaded) -> None:
    said = " ".join(answer(loaded(FakeRun(characters=(WITHOUT_GOLD[0], GAMER)))))
    assert "it wins 98% (96% to 100%) of 128 held-out prompts against the anchor" in said
    assert "But its responses are 46% longer" in said
    assert "begin with the same words (“I'd be happy to”) 81% of the time" in said
    assert "not checked for correctness" in said
    assert "read that as style, not substance" in said
    assert "is best" not in said


def test_a_judge_fooled_by_style_is_confronted_with_the_truth(loaded: Loaded) -> None:
    gamer = dataclasses.replace(GAMER, gold=0.52, correct_change=-0.01)
    said = " ".join(answer(loaded(FakeRun(characters=(CORE[0], gamer)))))
    assert "No recipe is shown to beat the anchor" in said
    assert "wins 98% (96% to 100%) by judge probe and 52% (43% to 61%) by the data's own check" in said
    assert "not shown to be more correct (−1 point, −6 to +4): read that as style, not substance" in said


def test_a_win_is_told_once(loaded: Loaded) -> None:
    """The sentence on style goes on from the one that named the winner."""
    said = " ".join(answer(loaded(FakeRun(characters=(WITHOUT_GOLD[0], GAMER)))))
    assert said.count("wins 98%") == 1


def test_only_wins_with_the_same_signs_are_lumped_together(loaded: Loaded) -> None:
    """What one of them does is not said of another."""
    alike = dataclasses.replace(GAMER, recipe="dpo-beta0.3", judged=0.9)
    shorter = dataclasses.replace(GAMER, recipe="dpo-beta0.5", judged=0.8, length_ratio=1.0)
    said = " ".join(answer(loaded(FakeRun(characters=(GAMER, alike, shorter)))))
    assert "The same goes for dpo-beta0.3." in said


def test_a_judge_that_is_not_believed_makes_no_win_by_style(loaded: Loaded) -> None:
    """Its win rates decide nothing, so they are no win either; the warnings show them."""
    run = loaded(FakeRun(characters=(WITHOUT_GOLD[0], GAMER), qualified=False))
    assert "style" not in " ".join(answer(run))
    assert "Signs of winning by style" in " ".join(warnings(run))


def test_longer_responses_that_are_more_correct_are_not_called_style(loaded: Loaded) -> None:
    better = dataclasses.replace(GAMER, gold=0.9, correct_change=0.2)
    assert "style" not in " ".join(answer(loaded(FakeRun(characters=(CORE[0], better)))))


def test_an_opening_that_the_anchor_has_too_is_no_sign_of_gaming(loaded: Loaded) -> None:
    habit = dataclasses.replace(CORE[1], opening="The answer is", opening_share=0.9)
    same = loaded(FakeRun(characters=(habit,), anchor_text="The answer is 3."))
    assert "style" not in " ".join(answer(same))
    other = loaded(FakeRun(characters=(habit,), anchor_text="It is 3."))
    assert "style" in " ".join(answer(other))


def test_the_closest_of_equals_is_named_when_its_kl_is_shown_to_be_lower(loaded: Loaded) -> None:
    said = " ".join(answer(loaded(FakeRun(characters=CORE[2:5], significant=0.1))))
    assert "dpo-beta0.5 stays closest to the anchor (4.1 nats of KL less than dpo-beta0.1): the careful choice" in said


def test_one_seed_speaks_of_checkpoints(loaded: Loaded) -> None:
    assert "these checkpoints, not of the recipes" in answer(loaded(FakeRun()))[-1]


def test_a_failed_trial_is_named_in_the_answer(loaded: Loaded) -> None:
    run = loaded(FakeRun(characters=CORE[:3], failed={"dpo-beta0.3@1": "loss is not finite at step 7"}))
    assert "Without scores, so not compared: dpo-beta0.3@1." in answer(run)[-1]
