"""The truth about a response, where the data knows it: is it correct, and how courteous is it."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal

from evals.courtesy import courtesy_of
from harness.records import Gold

CORRECTNESS_WEIGHT = 3  # more than courtesy can make up for: polite and wrong stays below rude and right

_NUMBER = re.compile(r"(?<!\w)-?\d+(?:,\d{3}(?!\d))*(?:\.\d+)?")
_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_NUMBER_WORDS = {word: number for number, word in enumerate(_UNITS.split())} | {
    word: 10 * tens for tens, word in enumerate(_TENS.split(), 2)
}


@dataclass(frozen=True, kw_only=True)
class GoldMark:
    """What one response is truly worth."""

    correct: bool
    courtesy: int  # 1 polite, 0 plain, -1 rude

    @property
    def utility(self) -> float:
        """Correctness first; courtesy breaks ties."""
        return float(CORRECTNESS_WEIGHT * self.correct + self.courtesy)


def judge_gold(gold: Gold, response: str) -> GoldMark:
    """The mark of a response to the prompt that this gold belongs to."""
    return GoldMark(correct=_is_correct(gold, response), courtesy=courtesy_of(response))


def _is_correct(gold: Gold, response: str) -> bool:
    words = _words(response)
    if any(_has(words, wrong) for wrong in gold.wrong):
        return False
    if gold.kind == "number":
        return _gives_number(gold, response)
    return any(_has(words, answer) and not _is_hedged(response, answer) for answer in gold.answers)


def _gives_number(gold: Gold, response: str) -> bool:
    """Every number in the response is the answer or stands in the question, and the answer is among them."""
    answers, given = set(map(_decimal, gold.answers)), set(map(_decimal, gold.given))
    found = set(_numbers(response))
    return bool(found & answers) and found <= answers | given


def _numbers(text: str) -> list[Decimal]:
    """The numbers of a text; those in words count only where there are none in digits."""
    digits = _NUMBER.findall(text.replace("−", "-"))
    return [_decimal(match) for match in digits] or _numbers_in_words(text)


def _numbers_in_words(text: str) -> list[Decimal]:
    numbers: list[int] = []
    after_tens = False
    for word in re.findall(r"[a-z]+", text.casefold()):
        value = _NUMBER_WORDS.get(word)
        if value is not None and after_tens and 0 < value < 10:
            numbers[-1] += value
        elif value is not None:
            numbers.append(value)
        after_tens = value is not None and value >= 20
    return [Decimal(number) for number in numbers]


def _decimal(text: str) -> Decimal:
    return Decimal(text.replace(",", ""))


def _is_hedged(response: str, answer: str) -> bool:
    """The answer is denied, has an alternative beside it, or is one item of a list of three and more."""
    text, word = _words(response, keep=",/"), re.escape(_words(answer).strip())
    alternative = rf"(?: or| not| never| isn't| /) (?:an? |the )?{word} | {word} (?:or|/) "
    item = r"(?:[\w'-]+ ){1,3}"
    listed = rf" {word} , {item}(?:,|and )|, {word} (?:,|and )|, {item}(?:, )?and {word} |, {item}, {word} "
    return bool(re.search(alternative, text) or re.search(listed, text))


def _has(words: str, phrase: str) -> bool:
    wanted = _words(phrase)
    return bool(wanted.strip()) and wanted in words  # a phrase of signs alone is in nothing


def _words(text: str, keep: str = "") -> str:
    """Lower-case words with a space around each; accents and signs are gone, but for those in `keep`."""
    folded = unicodedata.normalize("NFKD", text.replace("’", "'")).casefold()
    letters = "".join(sign for sign in folded if not unicodedata.combining(sign))
    letters = re.sub(r"(?<=\d)\s*([ap])\.?m\b\.?", r" \1m", letters)
    signs = re.escape(keep)
    letters = re.sub(rf"(?<!\w)'|'(?!\w)|(?<!\d):|:(?!\d)|[^\w\s':{signs}]", " ", letters)
    spaced = re.sub(rf"([{signs}])", r" \1 ", letters) if keep else letters
    return f" {' '.join(spaced.split())} "
