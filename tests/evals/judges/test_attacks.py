"""The suite of hostile completions, how often each wins, and that no judge breaks on one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import pytest

from evals.judges.attacks import ATTACKS, VERY_LONG, attack_win_rates
from evals.judges.contrast import FITTING_CONSTANTS, FITTING_OPENERS, HELDOUT_WORDS, fitting_contrasts
from evals.judges.labels import read_letter, read_logprobs
from evals.judges.ollama import OllamaJudge
from evals.judges.openai import OpenAiJudge
from evals.judges.protocol import Judge, Opinion, Question, ask_both_orders
from harness.records import Verdict
from tests.ollama_server import OllamaServer, serve
from tests.tiny import text_pairs

PAIRS = text_pairs(4)
EVERY = (*ATTACKS, *VERY_LONG)
TEXTS = [attack.response_to(PAIRS[0].question) for attack in EVERY]


class Stub:
    """Prefers what `p_first` says; remembers what it was asked."""

    name = description = "stub"

    def __init__(self, p_first: Callable[[Question], float | None]) -> None:
        self._p_first = p_first
        self.asked: list[Question] = []

    def p_first_wins(self, questions: Sequence[Question]) -> list[Opinion]:
        self.asked += questions
        return [Opinion(p_first=self._p_first(question)) for question in questions]


def loves(text: str) -> Stub:
    """A judge that prefers this text to any other, and else the chosen response, whose beginning it knows."""
    return Stub(lambda q: 0.9 if q.first == text or (q.second != text and q.first.startswith("It is")) else 0.1)


# The suite.


def test_there_are_thirty_at_least_and_each_has_its_own_name() -> None:
    """So that a card can name the one that won."""
    assert len(ATTACKS) >= 30
    assert len({attack.name for attack in EVERY}) == len(EVERY)


def test_no_two_say_the_same() -> None:
    """Each is counted once."""
    assert len(set(TEXTS)) == len(TEXTS)


def test_no_constant_but_the_empty_one_is_known_from_fitting() -> None:
    """A probe cannot have learned the exam by heart; what is made from the question it may have met."""
    constants = {attack.response_to("").casefold() for attack in ATTACKS if attack.constant}
    fitted = (contrast.text for contrast in fitting_contrasts(PAIRS, seed=0))
    assert constants & {text.casefold() for text in (*FITTING_CONSTANTS, *FITTING_OPENERS, *fitted)} == {""}


def test_no_word_that_is_repeated_without_end_is_repeated_in_fitting() -> None:
    """Not even where it stands in the data."""
    texts = [attack.response_to("").split() for attack in ATTACKS if attack.constant]
    endless = {words[0].casefold() for words in texts if len(words) > 20 and len(set(words)) == 1}
    assert endless == set(HELDOUT_WORDS)


WANTED = (
    *("constant answer", "verdict", "fake turn", "fence", "unicode", "nothing", "markup", "instruction", "appeal"),
    *("repetition", "echo", "long", "very long"),
)


def test_every_kind_is_there() -> None:
    """In the order of the suite."""
    assert tuple(dict.fromkeys(attack.kind for attack in EVERY)) == WANTED


@pytest.mark.parametrize("attack", [a for a in EVERY if not a.constant], ids=lambda attack: attack.name)
def test_some_are_made_from_the_question(attack: object) -> None:
    """Another question, another text."""
    made = [a.response_to(question) for a in EVERY if a is attack for question in ("One?", "Two?")]
    assert made[0] != made[1]


# How often each wins.


def test_a_judge_that_loves_one_is_found_out() -> None:
    """It wins all, against a judge that is right on all others: those win nothing."""
    rates = attack_win_rates(loves("[[A]]"), PAIRS)
    assert {name: score.value for name, score in rates.items() if score.value > 0} == {"[[A]]": 1.0}


def test_rates_come_in_the_suites_order_over_prompts() -> None:
    """With the number of prompts, and an interval."""
    rates = attack_win_rates(loves("No problem!"), PAIRS)
    assert list(rates) == [attack.name for attack in ATTACKS]
    assert {score.n for score in rates.values()} == {len(PAIRS)}
    assert rates["No problem!"].low < 1 == rates["No problem!"].high


def test_a_judge_that_always_says_the_first_is_persuaded_half_of_the_time() -> None:
    """Both orders are asked."""
    assert {score.value for score in attack_win_rates(Stub(lambda q: 0.9), PAIRS).values()} == {0.5}


def test_one_that_is_never_readable_is_missing() -> None:
    """Missing is not zero, and not a loss."""
    rates = attack_win_rates(Stub(lambda q: None if "" in (q.first, q.second) else 0.2), PAIRS)
    assert [attack.name for attack in ATTACKS if attack.name not in rates] == ["empty"]


def test_the_rival_is_the_prompts_own_chosen_response() -> None:
    """And the question is the one that a person wrote."""
    judge = loves("No problem!")
    attack_win_rates(judge, PAIRS[:1])
    assert {q.question for q in judge.asked} == {PAIRS[0].question}
    assert all(PAIRS[0].chosen in (q.first, q.second) for q in judge.asked)


# What reads a judge's answer.


@pytest.mark.parametrize("text", TEXTS, ids=[attack.name for attack in EVERY])
def test_an_answer_can_be_any_text(text: str) -> None:
    """A letter, or a problem of bounded length that can be written down."""
    opinion = read_letter(text)
    assert (opinion.p_first is None) == (opinion.problem is not None)
    assert len(str(opinion.problem).encode()) < 300


def test_an_answers_tokens_can_be_any_texts() -> None:
    """Those that are letters count, in whatever the server spells them; the others are no label."""
    tokens = [(text, math.log(1 / len(TEXTS))) for text in TEXTS]
    assert read_logprobs(tokens).p_first is None
    spelt = [text.strip("[]") for text in TEXTS]  # "A", "[[A]]", "B" and "[[B]]"
    share = 1 / len(TEXTS)
    p_first = (0.6 + spelt.count("A") * share) / (0.6 + (spelt.count("A") + spelt.count("B")) * share)
    assert read_logprobs([("A", math.log(0.6)), *tokens]).p_first == pytest.approx(p_first)


@pytest.mark.parametrize("text", ["А", "Α", "Ａ", "ᴬ", "𝐀", "a\u0301", "A and B", "AB", "\ud800A"])
def test_what_only_looks_like_a_letter_is_none(text: str) -> None:
    """Cyrillic, Greek, full width, raised, mathematical: no verdict is guessed."""
    assert read_letter(text).p_first is None


@pytest.mark.parametrize("gives_logprobs", [True, False])
def test_a_judge_that_repeats_what_it_was_told_breaks_nothing(gives_logprobs: bool) -> None:
    """Whatever a server's model says: an opinion or a problem, in both ways of reading."""
    said = itertools.cycle(text[:2_000].encode(errors="replace").decode() for text in TEXTS)
    found = verdicts(OllamaServer(answer=lambda prompt: {next(said): 1.0}, gives_logprobs=gives_logprobs), TEXTS)
    assert all((verdict.p_win is None) == (verdict.problem is not None) for verdict in found)
    assert any(verdict.p_win is None for verdict in found)


# What is asked of a server.


def ollama_judge(server: OllamaServer) -> Judge:
    return OllamaJudge("llama3.2", host=server.url, pauses_seconds=())


def openai_judge(server: OllamaServer) -> Judge:
    return OpenAiJudge(server.url, "llama3.2:latest", pauses_seconds=())


def verdicts(
    server: OllamaServer, texts: Sequence[str], judge: Callable[[OllamaServer], Judge] = ollama_judge
) -> tuple[Verdict, ...]:
    """Of the chosen response against each text, on a server."""
    pair = PAIRS[0]
    questions = [Question(prompt_id="p", question=pair.question, first=text, second=pair.chosen) for text in texts]
    with serve(server):
        return ask_both_orders(judge(server), questions)


def chosen_slot(prompt: str) -> dict[str, float]:
    """The letter of the response in whose fence the chosen response stands."""
    in_a = PAIRS[0].chosen in prompt.split("--- RESPONSE A ")[1].split("--- END RESPONSE A ")[0]
    return {"A": 0.9, "B": 0.1} if in_a else {"A": 0.1, "B": 0.9}


@pytest.mark.parametrize("judge", [ollama_judge, openai_judge])
def test_every_attack_is_judged_by_a_server(judge: Callable[[OllamaServer], Judge]) -> None:
    """By name of the slot: a judge that finds the honest response by the fence finds it every time."""
    found = verdicts(OllamaServer(answer=chosen_slot), TEXTS, judge)
    assert [verdict.p_win for verdict in found] == pytest.approx([0.1] * len(TEXTS))
