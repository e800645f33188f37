"""The embedded set: its properties are promises that every report on it rests on."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable

import pytest

from evals.courtesy import courtesy_of
from evals.gold import judge_gold
from harness.data import courtesy
from harness.data.courtesy_manners import MANNERS, Phrases
from harness.data.courtesy_tasks import FAMILIES
from harness.data.rows import DataSet, load_pairs
from harness.data.splits import split_pairs

ROWS = [json.loads(line) for line in courtesy.PATH.read_text(encoding="utf-8").splitlines()]
DATA: DataSet = load_pairs("courtesy")
SPLITS = ("train", "judge", "test")
CONTRASTS = sorted({row["contrast"] for row in ROWS})
LENGTHS: dict[str, Callable[[str], int]] = {
    "characters": len,
    "words": lambda text: len(text.split()),
    "pieces": lambda text: len(re.findall(r"[A-Za-z]+|\d|[^\w\s]", text)),
}
CUES: dict[str, Callable[[str], object]] = LENGTHS | {
    "exclamation marks": lambda text: text.count("!"),
    "question marks": lambda text: text.count("?"),
    "full stops": lambda text: text.count("."),
    "commas": lambda text: text.count(","),
    "apostrophes": lambda text: text.count("'"),
    "capitals": lambda text: sum(letter.isupper() for letter in text),
    "first letter": lambda text: text[0],
    "last sign": lambda text: text[-1],
}


def phrases(*pools: str, manners: tuple[str, ...] = ("polite", "rude", "plain")) -> set[str]:
    chosen: list[Phrases] = [MANNERS[manner][pool] for manner in manners for pool in pools]
    return {phrase for one in chosen for phrase in (*one.openers, *one.closers)}


def win_rate(cue: Callable[[str], object], rows: list[dict[str, str]]) -> float:
    """How often having more of the cue is being preferred, ties half."""
    values = [(cue(row["chosen"]), cue(row["rejected"])) for row in rows]
    return sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in values) / len(values)  # type: ignore[operator]


def test_the_maker_makes_the_shipped_bytes() -> None:
    """Anybody can make the file again."""
    assert courtesy.make_text().encode() == courtesy.PATH.read_bytes()


def test_another_seed_makes_another_set() -> None:
    """The seed is what decides."""
    assert courtesy.make_text(seed=1) != courtesy.make_text(seed=2)


def test_there_are_2000_prompts_in_12_families() -> None:
    """Enough to hold prompts out, of enough kinds."""
    assert len({pair.prompt_id for pair in DATA.pairs}) == len(ROWS) >= 2000
    assert len({row["family"] for row in ROWS}) == len(FAMILIES) >= 12


def test_every_family_is_in_every_split() -> None:
    """What is measured was taught, and the other way round."""
    assert {(row["family"], row["split"]) for row in ROWS} == {(f.name, s) for f in FAMILIES for s in SPLITS}


def test_shares_are_about_70_15_15() -> None:
    """The splits are of the size that the bench expects."""
    counts = Counter(row["split"] for row in ROWS)
    assert [counts[split] / len(ROWS) for split in SPLITS] == pytest.approx([0.70, 0.15, 0.15], abs=0.015)


def test_the_bench_takes_the_splits_as_they_are_fixed() -> None:
    """No prompt is in two splits: splitting checks it, and keeps what the file says."""
    splits = split_pairs(DATA, seed=7)
    counts = Counter(row["split"] for row in ROWS)
    assert [len(splits.train), len(splits.judge), len(splits.test)] == [counts[split] for split in SPLITS]


def test_no_fact_is_in_two_splits() -> None:
    """What training told is not asked again in other words and called held out."""
    seen: dict[tuple[str, str], set[str]] = {}
    for row in ROWS:
        if row["family"] in ("plural", "past tense", "comparative", "antonym", "capital city", "spelling"):
            seen.setdefault((row["family"], json.dumps(row["gold"])), set()).add(row["split"])
    assert all(len(splits) == 1 for splits in seen.values())


@pytest.mark.parametrize("measure", LENGTHS)
@pytest.mark.parametrize("split", SPLITS)
def test_length_does_not_give_a_split_away(split: str, measure: str) -> None:
    """A judge that takes the longer one is right half the time."""
    rows = [row for row in ROWS if row["split"] == split]
    assert win_rate(LENGTHS[measure], rows) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("measure", LENGTHS)
@pytest.mark.parametrize("contrast", CONTRASTS)
def test_length_does_not_give_a_contrast_away(contrast: str, measure: str) -> None:
    """Nor within one kind of difference."""
    rows = [row for row in ROWS if row["contrast"] == contrast]
    assert win_rate(LENGTHS[measure], rows) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("cue", CUES)
def test_no_sign_of_the_surface_gives_the_answer_away(cue: str) -> None:
    """No punctuation, capital, first or last sign tells right from wrong in more than 60% of rows."""
    assert 0.4 < win_rate(CUES[cue], ROWS) < 0.6


@pytest.mark.parametrize("manner", ["polite", "rude", "plain"])
def test_the_test_splits_phrases_are_in_no_other_split(manner: str) -> None:
    """Courtesy is measured on phrases that neither a policy nor a judge was taught."""
    others = [row[side] for row in ROWS if row["split"] != "test" for side in ("chosen", "rejected")]
    assert not [phrase for phrase in phrases("test", manners=(manner,)) if any(phrase in text for text in others)]


def test_every_phrase_is_used() -> None:
    """The pools hold nothing idle."""
    texts = " ".join(row[side] for row in ROWS for side in ("chosen", "rejected"))
    assert not [phrase for phrase in phrases(*SPLITS) if phrase not in texts]


@pytest.mark.parametrize(("manner", "courtesy"), [("polite", 1), ("plain", 0), ("rude", -1)])
def test_every_phrase_is_known_to_the_lexicon(manner: str, courtesy: int) -> None:
    """The gold mark reads the courtesy of every phrase, of all splits, as it is meant."""
    assert {p: courtesy_of(p) for p in phrases(*SPLITS, manners=(manner,)) if courtesy_of(p) != courtesy} == {}


def test_no_phrase_holds_an_answer() -> None:
    """Being courteous neither answers a question nor spoils an answer."""
    said = " ".join(phrases(*SPLITS))
    words = set(re.findall(r"[\w']+", said.casefold()))
    told = {w.casefold() for row in ROWS for key in ("answers", "wrong") for w in row["gold"][key]}
    assert words & told == set()


def test_gold_agrees_with_every_label() -> None:
    """The chosen response has the higher utility in every row."""
    marks = [(judge_gold(p.gold, p.chosen), judge_gold(p.gold, p.rejected)) for p in DATA.pairs if p.gold]
    assert len(marks) == len(ROWS)
    assert all(chosen.utility > rejected.utility for chosen, rejected in marks)


def test_gold_marks_are_what_each_contrast_says() -> None:
    """Right or wrong, polite or plain or rude: as the row names its two sides."""
    for pair, row in zip(DATA.pairs, ROWS, strict=True):
        assert pair.gold is not None
        marks = [judge_gold(pair.gold, text) for text in (pair.chosen, pair.rejected)]
        manners = {1: "polite", 0: "plain", -1: "rude"}
        sides = [f"{'right' if m.correct else 'wrong'} and {manners[m.courtesy]}" for m in marks]
        assert " over ".join(sides) == row["contrast"]


def test_courtesy_alone_decides_in_55_to_65_percent() -> None:
    """The rest is decided by correctness."""
    assert 0.55 <= sum("wrong" not in row["contrast"] for row in ROWS) / len(ROWS) <= 0.65


def test_the_question_repeated_is_no_answer() -> None:
    """Parroting the prompt is never correct."""
    assert [p.question for p in DATA.pairs if p.gold and judge_gold(p.gold, p.question).correct] == []


def test_listing_every_answer_of_the_family_is_no_answer() -> None:
    """A response that says everything says nothing."""
    answers = {f.name: sorted({r["gold"]["answers"][0] for r in ROWS if r["family"] == f.name}) for f in FAMILIES}
    correct = [
        pair.question
        for pair, row in zip(DATA.pairs, ROWS, strict=True)
        if pair.gold and judge_gold(pair.gold, ", ".join(answers[row["family"]])).correct
    ]
    assert correct == []


def test_right_and_mistaken_answer_together_are_no_answer() -> None:
    """Hedging between the right answer and the likely mistake is not correct."""
    for pair in DATA.pairs:
        assert pair.gold is not None
        wrong = pair.gold.wrong[0] if pair.gold.wrong else str(int(pair.gold.answers[0]) + 7)
        assert not judge_gold(pair.gold, f"It is {pair.gold.answers[0]} or {wrong}.").correct


def test_texts_are_plain_ascii() -> None:
    """No sign that one tokenizer knows and another does not, curly apostrophes above all."""
    assert all(row[key].isascii() for row in ROWS for key in ("instruction", "input", "chosen", "rejected"))


def test_responses_are_short() -> None:
    """Eight to about thirty word pieces: learnt in a few hundred pairs."""
    sizes = [LENGTHS["pieces"](row[side]) for row in ROWS for side in ("chosen", "rejected")]
    assert min(sizes) > 0
    assert max(sizes) <= 40
