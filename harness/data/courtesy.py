"""Maker of the courtesy set: `python -m harness.data.courtesy` writes courtesy.jsonl again.

Each row is a task with a checkable answer and two responses. What is right is preferred to what is wrong, and
of two equally right ones the more courteous. All prompts about one fact are in one split. Responses are drawn
until the chosen one is longer in every second row of each contrast, by characters, words and word pieces.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from harness import store
from harness.data.courtesy_facts import Fact, pick, shuffled
from harness.data.courtesy_manners import MANNERS, Phrases
from harness.data.courtesy_tasks import FAMILIES, Family

PATH = Path(__file__).with_suffix(".jsonl")
SEED = 20
PROMPTS_PER_FAMILY = 118
SPLIT_ENDS = (("train", 0.70), ("judge", 0.85), ("test", 1.00))
POOLS = {"train": ("train",), "judge": ("train", "judge"), "test": ("test",)}  # of phrases, by split


@dataclass(frozen=True, kw_only=True)
class Side:
    """What one response of a pair is like."""

    correct: bool
    manner: str  # "polite", "plain", "rude"

    def __str__(self) -> str:
        return f"{'right' if self.correct else 'wrong'} and {self.manner}"


def _right(manner: str) -> Side:
    return Side(correct=True, manner=manner)


def _wrong(manner: str) -> Side:
    return Side(correct=False, manner=manner)


# Of every twenty rows. Twelve differ in courtesy only; in the others the chosen response alone is right.
CONTRASTS = (
    (_right("polite"), _right("rude"), 5),
    (_right("polite"), _right("plain"), 4),
    (_right("plain"), _right("rude"), 3),
    (_right("plain"), _wrong("polite"), 3),
    (_right("polite"), _wrong("polite"), 3),
    (_right("plain"), _wrong("plain"), 2),
)
TURNS = tuple((chosen, rejected) for chosen, rejected, rows in CONTRASTS for _ in range(rows))


@dataclass(frozen=True, kw_only=True)
class Task:
    """One prompt to be answered, before its responses are written."""

    family: Family
    fact: Fact
    ask: str
    split: str


def make_rows(seed: int = SEED) -> list[dict[str, object]]:
    """All rows of the set, in the order of the file."""
    rng = Random(seed)
    tasks = [task for family in FAMILIES for task in _tasks(rng, family)]
    rows = []
    for split, _ in SPLIT_ENDS:
        longer: Counter[str] = Counter()
        for turn, task in enumerate(shuffled(rng, [task for task in tasks if task.split == split])):
            chosen, rejected = TURNS[turn % len(TURNS)]
            contrast = f"{chosen} over {rejected}"
            longer[contrast] += 1
            rows.append(_row(rng, task, chosen, rejected, chosen_longer=longer[contrast] % 2 == 0))
    return rows


def _tasks(rng: Random, family: Family) -> Iterator[Task]:
    """The family's prompts: every fact asked in one way, then in a second one, until there are enough."""
    facts = list({tuple(fact.slots.values()): fact for fact in family.facts(rng)}.values())
    facts = shuffled(rng, facts)[:PROMPTS_PER_FAMILY]
    rounds, extra = divmod(PROMPTS_PER_FAMILY, len(facts))
    for place, fact in enumerate(facts):
        split = next(name for name, end in SPLIT_ENDS if place + 0.5 < end * len(facts))
        for ask in shuffled(rng, family.asks)[: rounds + (rng.random() < extra / len(facts))]:
            yield Task(family=family, fact=fact, ask=ask, split=split)


def _row(rng: Random, task: Task, chosen: Side, rejected: Side, *, chosen_longer: bool) -> dict[str, object]:
    instruction, _, given = task.ask.format(**task.fact.slots).partition("|")
    texts = _responses(rng, task, chosen, rejected, chosen_longer=chosen_longer)
    fact = task.fact
    return {
        "instruction": instruction,
        "input": given,
        "chosen": texts[0],
        "rejected": texts[1],
        "family": task.family.name,
        "contrast": f"{chosen} over {rejected}",
        "split": task.split,
        "gold": {"kind": fact.kind, "answers": fact.answers, "wrong": fact.wrong, "given": fact.given},
    }


def _responses(rng: Random, task: Task, chosen: Side, rejected: Side, *, chosen_longer: bool) -> tuple[str, str]:
    """Two responses of the sides asked for, the longer one being longer by every measure."""
    while True:
        texts = _response(rng, task, chosen), _response(rng, task, rejected)
        differences = [a - b for a, b in zip(*map(_lengths, texts), strict=True)]
        if all(difference * (1 if chosen_longer else -1) > 0 for difference in differences):
            return texts


def _lengths(text: str) -> tuple[int, int, int]:
    """Characters, words, and pieces as tokenizers with single digits cut them."""
    return len(text), len(text.split()), len(re.findall(r"[A-Za-z]+|\d|[^\w\s]", text))


def _response(rng: Random, task: Task, side: Side) -> str:
    answer = task.fact.answers[0] if side.correct else task.fact.mistake
    told = pick(rng, task.family.tells).format(**task.fact.slots, answer=answer)
    phrases = MANNERS[side.manner][pick(rng, POOLS[task.split])]
    return _dressed(rng, told[0].upper() + told[1:], phrases, may_be_bare=side.manner == "plain")


def _dressed(rng: Random, told: str, phrases: Phrases, *, may_be_bare: bool) -> str:
    opener, closer = pick(rng, phrases.openers), pick(rng, phrases.closers)
    forms = [f"{opener} {told}", f"{told} {closer}", f"{opener} {told} {closer}"]
    return pick(rng, [*forms, told] if may_be_bare else forms)


def make_text(seed: int = SEED) -> str:
    """The whole file."""
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in make_rows(seed))


def main() -> int:
    """Write the file, or with --check say whether it is the one that would be written."""
    parser = argparse.ArgumentParser(prog="python -m harness.data.courtesy", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where the file differs")
    if not parser.parse_args().check:
        store.write_text(PATH, make_text())
        return 0
    same = PATH.is_file() and PATH.read_bytes() == make_text().encode()
    print(f"{PATH} is {'what' if same else 'NOT what'} its maker makes")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
