"""A chat model on an Ollama server, asked "A or B?": one token, temperature 0, probabilities of both labels.

Servers from 0.12.11 give log-probs; of older ones the letter is read. `OLLAMA_HOST` says where the server is.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx
import ollama

from evals.judges.ballot import SYSTEM, write_ballot
from evals.judges.labels import read_letter, read_logprobs
from evals.judges.protocol import Opinion, Question
from harness.errors import HarnessError

CONCURRENT = 4  # requests under way at once
PAUSES_SECONDS = (0.2, 1.0)  # before the second and the third attempt
TIMEOUT_SECONDS = 120.0  # the first request loads the model
TOP_TOKENS = 20  # the most that the server gives
CONTEXT_TOKENS = 8_192  # two responses and a question at the ballot's longest; the server's own default may be less

# Refused or broken connections, timeouts, redirects without end, and replies that are not JSON or not an answer.
_PASSING = (ConnectionError, httpx.HTTPError, ValueError, TypeError, RecursionError)


class OllamaJudge:
    """`ollama:MODEL`; the model's digest, as the server gave it at the start, stands in the description."""

    def __init__(
        self,
        model: str,
        *,
        host: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        pauses_seconds: Sequence[float] = PAUSES_SECONDS,
    ) -> None:
        self.name = f"ollama:{model}"
        self._pauses_seconds = pauses_seconds
        self._client = _connect(host, timeout_seconds)
        self._model, digest = _find_model(model, _list_models(self._client, host))
        self.description = f"{self._model} ({digest}) on an Ollama server, asked A or B at temperature 0"

    def p_first_wins(self, questions: Sequence[Question]) -> list[Opinion]:
        """Opinions in the questions' order, a few requests at a time."""
        pool = ThreadPoolExecutor(CONCURRENT)
        try:
            return list(pool.map(self._opinion, questions))
        finally:
            pool.shutdown(cancel_futures=True)  # an interrupt does not wait for the questions not yet asked

    def _opinion(self, question: Question) -> Opinion:
        """The answer of the first attempt that gets one, or why none did."""
        ballot = write_ballot(question)
        problem = ""
        for pause_seconds in (0.0, *self._pauses_seconds):
            time.sleep(pause_seconds)
            try:
                return self._ask(ballot)
            except ollama.ResponseError as error:
                problem = f"the server answered {error.status_code}: {_first_line(error)}"
                if 400 <= error.status_code < 500 and error.status_code != 429:
                    break
            except _PASSING as error:
                problem = f"{type(error).__name__}: {_first_line(error)}"
        return Opinion(p_first=None, problem=problem)

    def _ask(self, ballot: str) -> Opinion:
        reply = self._client.chat(
            model=self._model,
            messages=[{"role": "system", "content": SYSTEM}, {"role": "user", "content": ballot}],
            think=False,
            logprobs=True,
            top_logprobs=TOP_TOKENS,
            options={"temperature": 0, "seed": 0, "num_predict": 1, "num_ctx": CONTEXT_TOKENS},
        )
        tokens = _first_tokens(reply)
        return read_logprobs(tokens) if tokens else read_letter(reply.message.content or "")


def _first_tokens(reply: ollama.ChatResponse) -> list[tuple[str, float]]:
    """The likeliest first tokens and their log-probs, the one given among them; none from older servers."""
    if not reply.logprobs:
        return []
    answer = reply.logprobs[0]
    tokens = [(top.token, top.logprob) for top in answer.top_logprobs or ()]
    if answer.token not in (token for token, _ in tokens):
        tokens.append((answer.token, answer.logprob))
    if not sum(math.exp(min(logprob, 1.0)) for _, logprob in tokens) <= 1.01:  # above 1 by rounding, at most; NaN fails
        raise ValueError("the log-probs of the first token are none")
    return tokens


def _connect(host: str | None, timeout_seconds: float) -> ollama.Client:
    try:
        return ollama.Client(host=host, timeout=timeout_seconds)
    except (ValueError, httpx.InvalidURL) as error:
        raise HarnessError(f"OLLAMA_HOST is {_place(host)!r}, not an address: set it to HOST:PORT") from error


def _list_models(client: ollama.Client, host: str | None) -> dict[str, str]:
    """Installed models and their digests."""
    try:
        listed = client.list().models
    except (ollama.ResponseError, *_PASSING) as error:
        raise HarnessError(
            f"no Ollama server answers at {_place(host)}: start it with 'ollama serve', set OLLAMA_HOST, "
            "or use --judge probe"
        ) from error
    return {model.model: model.digest or "no digest" for model in listed if model.model}


def _find_model(model: str, installed: dict[str, str]) -> tuple[str, str]:
    """Full name and digest of the model asked for; a name without a tag means `:latest`, as on the server."""
    for name in (model, f"{model}:latest"):
        if name in installed:
            return name, installed[name]
    others = f" (it has {', '.join(sorted(installed)[:5])})" if installed else ""
    raise HarnessError(f"judge {model!r} is not on the server{others}: ollama pull {model}, or --judge probe")


def _place(host: str | None) -> str:
    return host or os.environ.get("OLLAMA_HOST") or "127.0.0.1:11434"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]
