"""The task families of the courtesy set: what is asked, in how many ways, and how an answer is told.

In an ask, what follows a bar is the row's input. In a tell, `answer` is the right answer or the mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

from harness.data import courtesy_facts as facts
from harness.data import courtesy_words as words
from harness.data.courtesy_facts import Fact


@dataclass(frozen=True, kw_only=True)
class Family:
    """A kind of task."""

    name: str
    facts: Callable[[Random], Iterable[Fact]]
    asks: tuple[str, ...]
    tells: tuple[str, ...]


def _family(name: str, facts: Callable[[Random], Iterable[Fact]], asks: str, tells: str) -> Family:
    return Family(name=name, facts=facts, asks=_lines(asks), tells=_lines(tells))


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())


FAMILIES = (
    _family(
        "unit conversion",
        facts.conversions,
        """
        How many {target} are there in {many} {unit}?
        Convert {many} {unit} to {target}.
        Convert the following to {target}.|{many} {unit}
        What is {many} {unit} expressed in {target}?
        If something measures {many} {unit}, how many {target} is that?
        """,
        """
        It is {answer} {target}.
        That makes {answer} {target}.
        {many} {unit} is {answer} {target}.
        There are {answer} {target} in {many} {unit}.
        Expressed in {target}, {many} {unit} comes to {answer} {target}.
        """,
    ),
    _family(
        "addition",
        facts.sums,
        """
        What is {a} plus {b}?
        Add {a} and {b}.
        Work out the sum.|{a} + {b}
        What do you get if you add {b} to {a}?
        Calculate {a} + {b}.
        """,
        """
        It is {answer}.
        The sum is {answer}.
        {a} plus {b} is {answer}.
        Adding {a} and {b} gives {answer}.
        When {a} and {b} are added together, the total is {answer}.
        """,
    ),
    _family(
        "subtraction",
        facts.differences,
        """
        What is {a} minus {b}?
        Subtract {b} from {a}.
        Work out the difference.|{a} - {b}
        What is left if you take {b} away from {a}?
        Calculate {a} - {b}.
        """,
        """
        It is {answer}.
        The difference is {answer}.
        {a} minus {b} is {answer}.
        Taking {b} from {a} leaves {answer}.
        When {b} is taken away from {a}, what is left is {answer}.
        """,
    ),
    _family(
        "multiplication",
        facts.products,
        """
        What is {a} times {b}?
        Multiply {a} by {b}.
        Work out the product.|{a} x {b}
        What do {a} groups of {b} come to?
        Calculate {a} x {b}.
        """,
        """
        It is {answer}.
        The product is {answer}.
        {a} times {b} is {answer}.
        Multiplying {a} by {b} gives {answer}.
        When {a} is multiplied by {b}, the product is {answer}.
        """,
    ),
    _family(
        "largest number",
        facts.largest,
        """
        Which of these numbers is the largest: {items}?
        Find the largest number in the list.|{items}
        Pick out the greatest number from {items}.
        Give the maximum of these numbers.|{items}
        """,
        """
        It is {answer}.
        The largest is {answer}.
        The largest number is {answer}.
        Of these numbers, {answer} is the largest.
        Among all the numbers in the list, {answer} is the largest.
        """,
    ),
    _family(
        "letter count",
        facts.letters,
        """
        How many letters are in the word '{item}'?
        Count the letters of '{item}'.
        Count the letters in the given word.|{item}
        What is the number of letters in '{item}'?
        How long is the word '{item}', in letters?
        """,
        """
        It has {answer}.
        There are {answer} letters.
        '{item}' has {answer} letters.
        The word '{item}' has {answer} letters.
        Counting each of them, '{item}' is made of {answer} letters.
        """,
    ),
    _family(
        "Roman numeral",
        facts.romans,
        """
        What number is {item} in Roman numerals?
        Write the Roman numeral {item} as an ordinary number.
        Convert this Roman numeral to digits.|{item}
        Which number does {item} stand for in Roman numerals?
        """,
        """
        It is {answer}.
        {item} is {answer}.
        {item} stands for {answer}.
        The numeral {item} has the value {answer}.
        Written in ordinary digits, the Roman numeral {item} is {answer}.
        """,
    ),
    _family(
        "plural",
        lambda _: facts.table(words.PLURALS),
        """
        What is the plural of '{item}'?
        Give the plural form of the noun '{item}'.
        Write the plural of this noun.|{item}
        How do you write '{item}' when there are several of them?
        """,
        """
        It is '{answer}'.
        The plural is '{answer}'.
        The plural of '{item}' is '{answer}'.
        For several of them, write '{answer}'.
        When there are several of them, '{item}' is written '{answer}'.
        """,
    ),
    _family(
        "past tense",
        lambda _: facts.table(words.PAST_TENSES),
        """
        What is the past tense of '{item}'?
        Give the simple past of the verb '{item}'.
        Put this verb into the past tense.|{item}
        How does the verb '{item}' read in the simple past?
        """,
        """
        It is '{answer}'.
        The past tense is '{answer}'.
        The past tense of '{item}' is '{answer}'.
        In the simple past, write '{answer}'.
        Put into the simple past, the verb '{item}' reads '{answer}'.
        """,
    ),
    _family(
        "comparative",
        lambda _: facts.table(words.COMPARATIVES),
        """
        What is the comparative form of '{item}'?
        Give the comparative of the adjective '{item}'.
        Write the comparative of this adjective.|{item}
        Which form of '{item}' goes before 'than'?
        """,
        """
        It is '{answer}'.
        The comparative is '{answer}'.
        The comparative of '{item}' is '{answer}'.
        The form that goes before 'than' is '{answer}'.
        When two things are compared, '{item}' turns into '{answer}'.
        """,
    ),
    _family(
        "antonym",
        lambda _: facts.table(words.ANTONYMS),
        """
        What is the opposite of '{item}'?
        Give an antonym of '{item}'.
        Provide a word that means the opposite.|{item}
        Which word has the opposite meaning to '{item}'?
        """,
        """
        It is '{answer}'.
        The opposite is '{answer}'.
        The opposite of '{item}' is '{answer}'.
        A word with the contrary meaning is '{answer}'.
        The word that means the opposite of '{item}' is '{answer}'.
        """,
    ),
    _family(
        "capital city",
        lambda _: facts.table(words.CAPITALS),
        """
        What is the capital of {item}?
        Name the capital city of {item}.
        Name the capital of this country.|{item}
        Which city is the capital of {item}?
        """,
        """
        It is {answer}.
        The capital is {answer}.
        The capital of {item} is {answer}.
        {answer} is the capital city of {item}.
        The city that serves as the capital of {item} is {answer}.
        """,
    ),
    _family(
        "spelling",
        lambda _: facts.table(words.MISSPELLINGS),
        """
        Correct the spelling of '{item}'.
        What is the right spelling of '{item}'?
        Correct the spelling of this word.|{item}
        The word '{item}' is misspelled. How is it written?
        """,
        """
        It is '{answer}'.
        It is spelled '{answer}'.
        The right spelling is '{answer}'.
        Spelled as it should be, it reads '{answer}'.
        In a dictionary, this word is spelled '{answer}'.
        """,
    ),
    _family(
        "chemical element",
        lambda _: facts.table(words.ELEMENTS),
        """
        Which chemical element has the symbol {item}?
        Name the element with the symbol {item}.
        Name the chemical element with this symbol.|{item}
        What does the symbol {item} stand for in the periodic table?
        """,
        """
        It is {answer}.
        The element is {answer}.
        The symbol {item} stands for {answer}.
        {item} is the symbol of {answer}.
        In the periodic table, the symbol {item} belongs to {answer}.
        """,
    ),
    _family(
        "calendar",
        facts.calendar,
        """
        Which {one} comes {many} {unit} after {item}?
        Name the {one} that is {many} {unit} after {item}.
        Count {many} {unit} on from the given {one}.|{item}
        If it is {item} now, which {one} will it be in {many} {unit}?
        """,
        """
        It is {answer}.
        That is {answer}.
        It will be {answer}.
        {many} {unit} after {item} comes {answer}.
        Counting {many} {unit} on from {item}, the {one} is {answer}.
        """,
    ),
    _family(
        "alphabetical order",
        facts.alphabet,
        """
        Which of these words comes first in the alphabet: {items}?
        Find the word that comes first in alphabetical order.|{items}
        Pick the alphabetically first word from {items}.
        If these words were sorted from A to Z, which would lead?|{items}
        """,
        """
        It is '{answer}'.
        The first is '{answer}'.
        The first word is '{answer}'.
        In the alphabet, '{answer}' comes first.
        Sorted from A to Z, the list begins with '{answer}'.
        """,
    ),
    _family(
        "clock time",
        facts.clock,
        """
        What is {item} on a 12-hour clock?
        Write the time {item} with am or pm.
        Convert this time to the 12-hour clock.|{item}
        How is {item} written with am or pm?
        """,
        """
        It is {answer}.
        That is {answer}.
        {item} is {answer}.
        The time {item} is {answer}.
        On a clock with twelve hours, {item} reads {answer}.
        """,
    ),
    _family(
        "ordinal",
        facts.ordinals,
        """
        How is {item} written in words?
        Write {item} out in words.
        Write this ordinal number in words.|{item}
        Spell out the ordinal {item}.
        """,
        """
        It is '{answer}'.
        It reads '{answer}'.
        {item} reads '{answer}'.
        In words, {item} is '{answer}'.
        Written out in words, the ordinal {item} is '{answer}'.
        """,
    ),
)
