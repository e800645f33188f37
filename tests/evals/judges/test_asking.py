"""What judges on a server share: patience with faults that pass, none with those that last, and an end to both."""

from __future__ import annotations

import email.utils
import threading
import time
from collections.abc import Callable

import httpx
import pytest

from evals.judges.asking import (
    CONCURRENT,
    LONGEST_PAUSE_SECONDS,
    MOST_LOST,
    PAUSES_SECONDS,
    Asking,
    RefusalError,
    raise_refusal,
)
from evals.judges.protocol import Opinion, Question


def questions(count: int) -> list[Question]:
    return [Question(prompt_id=f"p{n}", question="Why?", first="a", second="b") for n in range(count)]


class Failing:
    """Raises these, one a call, and answers 0.75 from then on; counts the calls."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.calls = list(errors), 0

    def __call__(self, question: Question) -> Opinion:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return Opinion(p_first=0.75)


def forever(error: Exception) -> Failing:
    return Failing(*[error] * 10_000)


def slept(ask: Callable[[Question], Opinion]) -> tuple[list[float], Opinion]:
    """The pauses that one question took, and its opinion."""
    pauses: list[float] = []
    (opinion,) = Asking(PAUSES_SECONDS, pauses.append).ask_all(ask, questions(1))
    return pauses, opinion


def test_pauses_grow() -> None:
    """Each is longer than the one before, and after the last one the question is given up with its reason."""
    pauses, opinion = slept(forever(ConnectionError("gone")))
    assert pauses == sorted(set(pauses)) == list(PAUSES_SECONDS)
    assert opinion == Opinion(p_first=None, problem="ConnectionError: gone")


def test_what_passes_is_asked_again() -> None:
    """Four faults of different kinds, and the fifth attempt answers."""
    faults = (RefusalError(500, "no"), httpx.ReadTimeout("late"), ValueError("no JSON"), RefusalError(429, "busy"))
    assert slept(Failing(*faults))[1] == Opinion(p_first=0.75)


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422])
def test_a_refusal_for_good_is_not_repeated(status: int) -> None:
    """The same request would fare no better."""
    ask = forever(RefusalError(status, "no"))
    assert (slept(ask)[1].problem, ask.calls) == (f"the server answered {status}: no", 1)


def test_the_server_says_how_long_it_wants_to_be_left_alone() -> None:
    """Retry-After counts where it is longer than our own pause."""
    assert slept(Failing(RefusalError(429, "busy", 7.0), RefusalError(503, "busy", 0.1)))[0] == [7.0, PAUSES_SECONDS[1]]


def test_a_server_that_wants_too_much_patience_gets_none() -> None:
    """An hour's pause is an answer not given."""
    assert slept(forever(RefusalError(429, "busy", LONGEST_PAUSE_SECONDS + 1)))[0] == []


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("3", 3, 3),
        ("0.5", 0.5, 0.5),
        *((text, 0, 0) for text in ("-1", "soon", "", "nan", "inf", "Mon, 99 Foo 2026", "1e400")),
    ],
)
def test_retry_after_is_seconds(header: str, least: float, most: float) -> None:
    """What is none asks for nothing."""
    assert least <= wait_of(header) <= most


@pytest.mark.parametrize(("ahead", "least", "most"), [(30, 20, 31), (-30, 0, 0)])
def test_retry_after_is_a_date(ahead: float, least: float, most: float) -> None:
    """Written when the test runs, not when it is collected."""
    assert least <= wait_of(email.utils.formatdate(time.time() + ahead, usegmt=True)) <= most


def wait_of(header: str) -> float:
    response = httpx.Response(429, headers={"Retry-After": header}, request=httpx.Request("GET", "http://x"))
    with pytest.raises(RefusalError) as refusal:
        raise_refusal(response)
    return refusal.value.wait_seconds


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"error": "model is gone"}', "model is gone"),
        ('{"error": {"message": "too long", "code": 400}}', "too long"),
        ('{"message": "no"}', "no"),
        ('{"detail": [1]}', '{"detail": [1]}'),
        ("<html>\nno", "<html> no"),
        ("[1]", "[1]"),
        ("", ""),
    ],
)
def test_the_servers_own_words_are_kept_in_one_line(body: str, said: str) -> None:
    """Of Ollama's form, of OpenAI's, and of none."""
    with pytest.raises(RefusalError) as refusal:
        raise_refusal(httpx.Response(500, text=body, request=httpx.Request("GET", "http://x")))
    assert str(refusal.value) == f"the server answered 500: {said}"


def test_a_server_that_is_away_is_not_asked_all_questions() -> None:
    """After so many without an answer the rest are given up, and say so."""
    ask = forever(ConnectionError("gone"))
    opinions = Asking((), lambda seconds: None).ask_all(ask, questions(200))
    assert MOST_LOST <= ask.calls <= MOST_LOST + CONCURRENT
    assert opinions[-1].problem == f"not asked, after {MOST_LOST} questions in a row without an answer"


def test_a_server_that_comes_back_is_asked_again() -> None:
    """The next call begins anew."""
    ask = forever(ConnectionError("gone"))
    asking = Asking((), lambda seconds: None)
    asking.ask_all(ask, questions(100))
    ask.errors.clear()
    assert {opinion.p_first for opinion in asking.ask_all(ask, questions(100))} == {0.75}


def test_questions_that_are_refused_each_for_itself_do_not_stop_the_rest() -> None:
    """A server that answers 400 is there."""
    ask = forever(RefusalError(400, "too long"))
    Asking((), lambda seconds: None).ask_all(ask, questions(100))
    assert ask.calls == 100


def test_only_a_few_requests_are_under_way_at_once() -> None:
    """And more than one."""
    lock, under_way, most = threading.Lock(), 0, 0

    def ask(question: Question) -> Opinion:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.01)
        with lock:
            under_way -= 1
        return Opinion(p_first=0.5)

    Asking().ask_all(ask, questions(24))
    assert most == CONCURRENT


def test_a_fault_of_our_own_is_raised() -> None:
    """It is no fault of the server's, and must not pass for a judge without an opinion."""
    with pytest.raises(ZeroDivisionError):
        Asking().ask_all(Failing(ZeroDivisionError()), questions(1))


def test_an_interrupt_waits_for_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions under way are left where they are, and no other is begun."""
    release, calls = threading.Event(), []

    def ask(question: Question) -> Opinion:
        calls.append(question)
        release.wait(20)
        return Opinion(p_first=0.5)

    def interrupted(self: object, timeout: float | None = None) -> Opinion:
        while len(calls) < CONCURRENT:
            time.sleep(0.001)
        raise KeyboardInterrupt

    monkeypatch.setattr("evals.judges.asking.Future.result", interrupted)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        Asking().ask_all(ask, questions(50))
    seconds = time.monotonic() - began
    release.set()
    time.sleep(0.05)
    assert (seconds < 5, len(calls)) == (True, CONCURRENT)


def test_no_questions_get_no_opinions() -> None:
    """And no thread."""
    assert Asking().ask_all(Failing(), []) == []
