"""The facts of the courtesy set: from the tables of words, and reckoned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from harness.data import courtesy_words as words

T = TypeVar("T")

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
UNITS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
ROMAN_SIGNS = ((90, "XC"), (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"))
DRAWN = 75  # facts of a family that has more than it needs


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One thing to ask for. `slots` fill the sentences that ask and tell."""

    slots: dict[str, str]
    answers: tuple[str, ...]  # the first one is told
    mistake: str  # plausible and wrong: what a wrong response tells
    wrong: tuple[str, ...] = ()  # the wrong answers that the checker knows
    kind: str = "word"
    given: tuple[str, ...] = ()  # numbers of the question


def pick(rng: Random, options: Sequence[T]) -> T:
    """One of the options, by the one kind of draw that every Python version makes alike."""
    return options[int(rng.random() * len(options))]


def shuffled(rng: Random, options: Sequence[T]) -> list[T]:
    """All of the options in a random order, by that same kind of draw."""
    return sorted(options, key=lambda _: rng.random())


def table(text: str) -> Iterator[Fact]:
    """The facts of one table of `courtesy_words`."""
    for item, answers, mistake in cells(text):
        yield Fact(slots={"item": item}, answers=tuple(answers.split("/")), mistake=mistake, wrong=(mistake,))


def cells(text: str) -> list[list[str]]:
    """The cells of each entry of a table."""
    entries = text.strip().replace("\n", "|").split("|")
    return [[cell.replace("_", " ") for cell in entry.split()] for entry in entries]


def _numeric(answer: int, mistake: int, given: Sequence[int] = (), **slots: str) -> Iterator[Fact]:
    """A fact whose answer is a number; nothing where repeating the question would look like an answer."""
    if answer not in given and mistake not in given:
        numbers = tuple(str(number) for number in given)
        right, wrong = (str(answer),), str(mistake)
        yield Fact(slots=slots, answers=right, mistake=wrong, kind="number", given=numbers)


def _slip(rng: Random, answer: int) -> int:
    """Off by one, two or ten, and never below one."""
    return pick(rng, [answer + slip for slip in (-10, -2, -1, 1, 2, 10) if answer + slip > 0])


def _between(rng: Random, low: int, high: int) -> int:
    return low + int(rng.random() * (high - low))


def conversions(rng: Random) -> Iterator[Fact]:
    """Whole numbers of a larger unit in a smaller one."""
    for unit, target, text in cells(words.CONVERSIONS):
        factor = int(text)
        for many in shuffled(rng, (2, 3, 4, 5, 6, 8, 9, 11))[:5]:
            mistake = pick(rng, [(many + 1) * factor, (many - 1) * factor, many * factor * 10])
            slots = {"many": str(many), "unit": unit, "target": target}
            yield from _numeric(many * factor, mistake, (many, factor), **slots)


def sums(rng: Random) -> Iterator[Fact]:
    """Sums of two numbers of two digits."""
    for _ in range(DRAWN):
        a, b = _between(rng, 11, 90), _between(rng, 11, 90)
        yield from _numeric(a + b, _slip(rng, a + b), (a, b), a=str(a), b=str(b))


def differences(rng: Random) -> Iterator[Fact]:
    """Differences of two numbers of two digits."""
    for _ in range(DRAWN):
        a, b = _between(rng, 45, 99), _between(rng, 11, 40)
        yield from _numeric(a - b, _slip(rng, a - b), (a, b), a=str(a), b=str(b))


def products(rng: Random) -> Iterator[Fact]:
    """The multiplication table, from three to twelve."""
    for a in range(3, 13):
        for b in range(a, 13):
            mistake = pick(rng, [a * b + a, a * b - b, a * b + 1])
            yield from _numeric(a * b, mistake, (a, b), a=str(a), b=str(b))


def largest(rng: Random) -> Iterator[Fact]:
    """The largest of four numbers."""
    for _ in range(DRAWN):
        numbers = [_between(rng, 10, 900) for _ in range(4)]
        if len(set(numbers)) == len(numbers):
            second, first = sorted(numbers)[-2:]
            yield from _numeric(first, second, items=", ".join(map(str, numbers)))


def letters(rng: Random) -> Iterator[Fact]:
    """How many letters a word has."""
    for word in words.SPELLED.split():
        yield from _numeric(len(word), len(word) + pick(rng, [-2, -1, 1, 2]), item=word)


def romans(rng: Random) -> Iterator[Fact]:
    """Roman numerals to read."""
    for number in shuffled(rng, range(4, 90))[:DRAWN]:
        yield from _numeric(number, _slip(rng, number), item=roman(number))


def roman(number: int) -> str:
    """A number below 100 as a Roman numeral."""
    text = ""
    for value, sign in ROMAN_SIGNS:
        text += sign * (number // value)
        number %= value
    return text


def calendar(rng: Random) -> Iterator[Fact]:
    """Days and months a few steps on."""
    for names, unit, most in ((DAYS, "days", 6), (MONTHS, "months", 5)):
        for start, name in enumerate(names):
            for many in range(2, most):
                answer = names[(start + many) % len(names)]
                slip = names[(start + many + pick(rng, [-1, 1])) % len(names)]
                slots = {"many": str(many), "unit": unit, "one": unit[:-1], "item": name}
                others = tuple(other for other in names if other not in (name, answer))
                mistake = slip if slip in others else others[0]
                yield Fact(slots=slots, answers=(answer,), mistake=mistake, wrong=others)


def alphabet(rng: Random) -> Iterator[Fact]:
    """The first of four words in the alphabet."""
    for _ in range(DRAWN):
        four = shuffled(rng, words.SORTED.split())[:4]
        first, *others = sorted(four)
        slots = {"items": ", ".join(four)}
        yield Fact(slots=slots, answers=(first,), mistake=pick(rng, others), wrong=tuple(others))


def clock(rng: Random) -> Iterator[Fact]:
    """Afternoon times on a clock of twelve hours."""
    for hour in range(13, 24):
        for minutes in shuffled(rng, range(5, 60, 5))[:6]:
            right = f"{hour - 12}:{minutes:02} pm"
            wrong = (f"{(hour - 14) % 12 + 1}:{minutes:02} pm", f"{hour - 12}:{minutes:02} am")
            slots = {"item": f"{hour}:{minutes:02}"}
            yield Fact(slots=slots, answers=(right,), mistake=pick(rng, wrong), wrong=wrong)


def ordinals(rng: Random) -> Iterator[Fact]:
    """Ordinal numbers to write out."""
    for tens, name in enumerate(TENS, 2):
        for unit, ordinal in enumerate(UNITS, 1):
            suffix = {1: "st", 2: "nd", 3: "rd"}.get(unit, "th")
            mistake = f"{name}-{pick(rng, [other for other in UNITS if other != ordinal])}"
            slots = {"item": f"{tens}{unit}{suffix}"}
            yield Fact(slots=slots, answers=(f"{name}-{ordinal}",), mistake=mistake, wrong=(mistake,))
