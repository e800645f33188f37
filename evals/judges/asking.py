"""What all judges on a server share: a few requests at a time, asked again with growing pauses, never without end.

A fault costs its own question alone: where nothing helped, the opinion is missing and says why.
"""

from __future__ import annotations

import email.utils
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Lock, Thread
from typing import TypeVar

import httpx

from evals.judges.protocol import Opinion, Question
from models.failure import in_one_line, one_line

CONCURRENT = 4  # requests under way at once
PAUSES_SECONDS = (0.2, 0.6, 1.8, 5.4)  # before the second attempt, the third…
LONGEST_PAUSE_SECONDS = 60.0  # a server that asks for more patience than this gets no more
LONGEST_QUESTION_SECONDS = 180.0  # after it no attempt is begun: a server that hangs is not asked five times
MOST_LOST = 16  # questions in a row without an answer: the server is away, and the rest are not asked
TIMEOUT_SECONDS = 120.0  # the first request loads the model

# Refused or broken connections, timeouts, redirects without end, and replies that are not JSON or not an answer.
PASSING = (ConnectionError, httpx.HTTPError, ValueError, TypeError, RecursionError)
T = TypeVar("T")


class RefusalError(Exception):
    """The server answered with an error; its status, its words, and the seconds that it wants to be left alone."""

    def __init__(self, status: int, reason: str, wait_seconds: float = 0.0) -> None:
        super().__init__(f"the server answered {status}: {in_one_line(reason)}")
        self.status, self.reason, self.wait_seconds = status, reason, wait_seconds

    @property
    def passing(self) -> bool:
        """Whether the same request may do better later."""
        return self.status >= 500 or self.status in (408, 425, 429)


def raise_refusal(response: httpx.Response) -> None:
    """An event hook of an HTTP client: `RefusalError` where the status is an error."""
    if response.is_error:
        response.read()
        raise RefusalError(response.status_code, _reason(response), _wait_seconds(response.headers.get("Retry-After")))


class Asking:
    """Puts questions to a server through `ask`, which gives an opinion or raises `RefusalError` or one of PASSING."""

    def __init__(
        self, pauses_seconds: Sequence[float] = PAUSES_SECONDS, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._pauses_seconds, self._sleep = pauses_seconds, sleep
        self._lost = 0  # questions in a row that got no answer
        self._lock = Lock()

    def ask_all(self, ask: Callable[[Question], Opinion], questions: Sequence[Question]) -> list[Opinion]:
        """Opinions in the questions' order. An interrupt waits for none: the threads do not hold the program up."""
        self._lost = min(self._lost, MOST_LOST - 1)  # one that was away is tried again
        futures: list[Future[Opinion]] = [Future() for _ in questions]
        waiting = deque(zip(futures, questions, strict=True))

        def work() -> None:
            while waiting:
                try:
                    future, question = waiting.popleft()
                except IndexError:  # another thread took the last one
                    return
                try:
                    future.set_result(self._opinion(ask, question))
                except BaseException as error:  # ours to raise where the answers are waited for
                    future.set_exception(error)

        for _ in range(min(CONCURRENT, len(questions))):
            Thread(target=work, daemon=True).start()
        try:
            return [future.result() for future in futures]
        finally:
            waiting.clear()

    def insist(self, call: Callable[[], T]) -> T:
        """What the first successful attempt gives; the last fault is raised where there is none."""
        began = time.monotonic()
        for pause_seconds in (*self._pauses_seconds, None):
            try:
                return call()
            except (RefusalError, *PASSING) as error:
                wait_seconds = error.wait_seconds if isinstance(error, RefusalError) else 0.0
                last = pause_seconds is None or time.monotonic() - began > LONGEST_QUESTION_SECONDS
                lasting = isinstance(error, RefusalError) and not error.passing
                if last or lasting or wait_seconds > LONGEST_PAUSE_SECONDS:
                    raise
                assert pause_seconds is not None
                self._sleep(max(pause_seconds, wait_seconds))
        raise AssertionError("the last attempt returns or raises")

    def _opinion(self, ask: Callable[[Question], Opinion], question: Question) -> Opinion:
        if self._lost >= MOST_LOST:
            return Opinion(p_first=None, problem=f"not asked, after {MOST_LOST} questions in a row without an answer")
        try:
            opinion = self.insist(lambda: ask(question))
        except (RefusalError, *PASSING) as error:
            self._count(lost=not isinstance(error, RefusalError) or error.passing)
            return Opinion(p_first=None, problem=problem_of(error))
        self._count(lost=False)
        return opinion

    def _count(self, *, lost: bool) -> None:
        with self._lock:
            self._lost = self._lost + 1 if lost else 0


def problem_of(error: Exception) -> str:
    """A fault in one line."""
    return str(error) if isinstance(error, RefusalError) else one_line(error)


def _reason(response: httpx.Response) -> str:
    """The server's own words: `error`, or its `message`, where the reply is JSON in the usual form, else all of it."""
    try:
        said = response.json()
        said = said.get("error", said)
        said = said.get("message", said) if isinstance(said, dict) else said
    except (ValueError, AttributeError, RecursionError):
        return response.text
    return said if isinstance(said, str) else response.text


def _wait_seconds(header: str | None) -> float:
    """Seconds from now that a Retry-After header means, given as a number or as a date; 0 where it means none."""
    try:
        seconds = float(header or 0)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(str(header)).timestamp() - time.time()
        except (ValueError, OverflowError, OSError):
            return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0
