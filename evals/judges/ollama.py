"""A chat model on an Ollama server, asked "A or B?": one token, temperature 0, probabilities of both labels.

Servers from 0.12.11 give log-probs; of older ones the letter is read. `OLLAMA_HOST` says where the server is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

import httpx
import ollama

from evals.judges.asking import (
    PASSING,
    PAUSES_SECONDS,
    TIMEOUT_SECONDS,
    Asking,
    RefusalError,
    problem_of,
    raise_refusal,
)
from evals.judges.ballot import SYSTEM, write_ballot
from evals.judges.labels import TOP_TOKENS, read_answer
from evals.judges.protocol import Judge, Opinion, Question
from harness.errors import HarnessError

CONTEXT_TOKENS = 8_192  # two responses and a question at the ballot's longest; the server's own default may be less
OPTIONS = {"temperature": 0, "seed": 0, "num_predict": 1, "num_ctx": CONTEXT_TOKENS}


def make(detail: str | None) -> Judge:
    """`ollama:MODEL`."""
    if not detail:
        raise HarnessError("judge 'ollama' names no model: write it as ollama:MODEL, ollama:llama3.2 for one")
    return OllamaJudge(detail)


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
        self._asking = Asking(pauses_seconds)
        self._client = _connect(host, timeout_seconds)
        self._model, digest = _find_model(model, _list_models(self._client, host, pauses_seconds))
        self.description = f"{self._model} ({digest}) on an Ollama server, asked A or B at temperature 0"

    def p_first_wins(self, questions: Sequence[Question]) -> list[Opinion]:
        """Opinions in the questions' order, a few requests at a time."""
        return self._asking.ask_all(self._ask, questions)

    def content(self, question: Question) -> str:
        """All that an answer hangs on besides the model."""
        return json.dumps(["ollama", SYSTEM, write_ballot(question), OPTIONS, TOP_TOKENS])

    def _ask(self, question: Question) -> Opinion:
        reply = self._client.chat(
            model=self._model,
            messages=[{"role": "system", "content": SYSTEM}, {"role": "user", "content": write_ballot(question)}],
            think=False,
            logprobs=True,
            top_logprobs=TOP_TOKENS,
            options=OPTIONS,
        )
        return read_answer(_first_tokens(reply), reply.message.content or "")


def _first_tokens(reply: ollama.ChatResponse) -> list[tuple[str, float]]:
    """The likeliest first tokens and their log-probs, the one given among them; none from older servers."""
    if not reply.logprobs:
        return []
    answer = reply.logprobs[0]
    tokens = [(top.token, top.logprob) for top in answer.top_logprobs or ()]
    if answer.token not in (token for token, _ in tokens):
        tokens.append((answer.token, answer.logprob))
    return tokens


def _connect(host: str | None, timeout_seconds: float) -> ollama.Client:
    try:
        return ollama.Client(host=host, timeout=timeout_seconds, event_hooks={"response": [raise_refusal]})
    except (ValueError, httpx.InvalidURL) as error:
        raise HarnessError(f"OLLAMA_HOST is {_place(host)!r}, not an address: set it to HOST:PORT") from error


def _list_models(client: ollama.Client, host: str | None, pauses_seconds: Sequence[float]) -> dict[str, str]:
    """Installed models and their digests. Who waits at a terminal is told sooner that there are none."""
    try:
        listed = Asking(pauses_seconds[:2]).insist(client.list).models
    except RefusalError as error:
        raise HarnessError(f"no Ollama server at {_place(host)} ({problem_of(error)}): set OLLAMA_HOST") from error
    except PASSING as error:
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
