"""A chat model on a server that speaks OpenAI's API (vLLM, llama.cpp's, LM Studio), asked "A or B?".

One token, temperature 0, probabilities of both labels; of servers that give none the letter is read. `OPENAI_API_KEY`
goes along where it is set, and is shown nowhere.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Sequence
from typing import Any

import httpx
from pydantic import BaseModel, Field, ValidationError

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

HOW = "write it as openai:BASE_URL#MODEL, openai:http://localhost:8000#llama3.2 for one"
OPTIONAL = {  # what a server may refuse to hear of; it is then left out from there on
    "logprobs": True,
    "top_logprobs": TOP_TOKENS,
    "seed": 0,
    "chat_template_kwargs": {"enable_thinking": False},  # else the first token of some models opens a thought
}
UNLISTED = "the server does not list its models"
TRIAL = Question(prompt_id="trial", question="2 + 2?", first="4", second="5")
PINNED_META = ("n_params", "size", "n_vocab")  # llama.cpp's server gives them: of the model, not of how it is run


class _Top(BaseModel):
    token: str
    logprob: float


class _Token(_Top):
    top_logprobs: list[_Top] | None = None


class _Logprobs(BaseModel):
    content: list[_Token] | None = None


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    logprobs: _Logprobs | None = None


class _Reply(BaseModel):
    choices: list[_Choice] = Field(min_length=1)


class _Model(BaseModel):
    """As listed. `created` is left alone: vLLM and llama.cpp's server give the time of asking."""

    id: str
    owned_by: str | None = None
    root: str | None = None  # vLLM: the weights that were loaded
    meta: dict[str, Any] | None = None


class _Listed(BaseModel):
    data: list[_Model]


def make(detail: str | None) -> Judge:
    """`openai:BASE_URL#MODEL`."""
    address, _, model = (detail or "").partition("#")
    if not address or not model:
        raise HarnessError(f"judge {f'openai:{detail or str()}'!r} names no {'model' if address else 'server'}: {HOW}")
    return OpenAiJudge(address, model)


class OpenAiJudge:
    """`openai:BASE_URL#MODEL`; what the server says of the model stands in the description."""

    def __init__(
        self,
        address: str,
        model: str,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        pauses_seconds: Sequence[float] = PAUSES_SECONDS,
    ) -> None:
        base = _base_url(address)
        self.name = f"openai:{address}#{model}"
        self._asking, self._model, self._key = Asking(pauses_seconds), model, _key()
        self._client = httpx.Client(
            base_url=base,
            timeout=timeout_seconds,
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            event_hooks={"response": [raise_refusal]},
        )
        self._optional: dict[str, Any] = OPTIONAL
        known = self._describe(Asking(pauses_seconds[:2]), base)
        self.description = f"{model} ({known}) at {base}, asked A or B at temperature 0"

    def p_first_wins(self, questions: Sequence[Question]) -> list[Opinion]:
        """Opinions in the questions' order, a few requests at a time."""
        return self._asking.ask_all(self._ask, questions)

    def content(self, question: Question) -> str:
        """All that an answer hangs on besides the model."""
        return json.dumps(["openai", SYSTEM, write_ballot(question), OPTIONAL])

    def _ask(self, question: Question) -> Opinion:
        body = {
            "model": self._model,
            "messages": [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": write_ballot(question)},
            ],
            "max_tokens": 1,
            "temperature": 0,
        }
        reply = _Reply.model_validate_json(self._post(body).content)
        answer = reply.choices[0]
        given = answer.logprobs.content if answer.logprobs else None
        return read_answer(_first_tokens(given[0]) if given else [], answer.message.content or "")

    def _post(self, body: dict[str, Any]) -> httpx.Response:
        """The reply, asked for again without what the server refuses to hear of. The key is kept out of errors."""
        while True:
            sent = dict(self._optional)
            try:
                return _expect_success(self._client.post("chat/completions", json=body | sent))
            except RefusalError as error:
                if error.status not in (400, 422) or not (named := [key for key in sent if key in error.reason]):
                    raise self._without_key(error) from None
                without = {"logprobs", "top_logprobs"} if "logprobs" in error.reason else {named[0]}
                self._optional = {key: value for key, value in sent.items() if key not in without}

    def _without_key(self, error: RefusalError) -> RefusalError:
        reason = error.reason.replace(self._key, "…") if self._key else error.reason
        return RefusalError(error.status, reason, error.wait_seconds)

    def _describe(self, asking: Asking, base: str) -> str:
        """What the server lists of the model; HarnessError where no server answers, or it lists only others."""
        try:
            return _known_of(self._model, asking.insist(self._list), base)
        except (ValidationError, RefusalError) as error:
            self._try(asking, base, error)
            return UNLISTED
        except PASSING as error:
            raise HarnessError(
                f"no server answers at {base} ({problem_of(error)}): start it, or use --judge probe"
            ) from error

    def _list(self) -> list[_Model]:
        try:
            return _Listed.model_validate_json(_expect_success(self._client.get("models")).content).data
        except RefusalError as error:
            raise self._without_key(error) from None

    def _try(self, asking: Asking, base: str, unlisted: Exception) -> None:
        """HarnessError where a server that keeps no list does not answer a question either."""
        if isinstance(unlisted, RefusalError) and unlisted.status in (401, 403):
            raise HarnessError(f"the server at {base} wants another key ({unlisted}): set OPENAI_API_KEY")
        try:
            asking.insist(lambda: self._ask(TRIAL))
        except (RefusalError, *PASSING) as error:
            raise HarnessError(
                f"no chat model answers at {base}/chat/completions ({problem_of(error)}): see to the address and server"
            ) from error


def _first_tokens(answer: _Token) -> list[tuple[str, float]]:
    """The likeliest first tokens and their log-probs, the one given among them."""
    tokens = [(top.token, top.logprob) for top in answer.top_logprobs or ()]
    if answer.token not in (token for token, _ in tokens):
        tokens.append((answer.token, answer.logprob))
    return tokens


def _expect_success(response: httpx.Response) -> httpx.Response:
    """Redirects are not followed: the key is for this server alone."""
    if not response.is_success:
        raise RefusalError(
            response.status_code, f"it wants to be asked at {response.headers.get('Location', 'no place')}"
        )
    return response


def _known_of(model: str, listed: Sequence[_Model], base: str) -> str:
    """What pins the model, as far as the server tells."""
    found = next((one for one in listed if one.id == model), None)
    if found is None:
        raise HarnessError(_absent(model, [one.id for one in listed], base))
    told = {"owned by": found.owned_by, "weights": found.root}
    told |= {name: found.meta[name] for name in PINNED_META if name in (found.meta or {})} if found.meta else {}
    return ", ".join(f"{name} {value}" for name, value in told.items() if value) or "nothing more is known of it"


def _absent(model: str, others: list[str], base: str) -> str:
    close = difflib.get_close_matches(model, others, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(sorted(others)[:5]) or 'none'}"
    return f"judge {model!r} is not on the server at {base}: {hint}"


def _base_url(address: str) -> str:
    """Where the requests go: the address as it stands, and /v1 of one that has no path."""
    try:
        url = httpx.URL(address)
        whole = url.scheme in ("http", "https") and bool(url.host)
    except (httpx.InvalidURL, ValueError):
        whole = False
    if not whole:
        raise HarnessError(f"judge address {address!r} is none: it begins with http:// or https://; {HOW}")
    if url.userinfo or url.query:
        raise HarnessError("a judge's address is printed in reports: leave out user, password and query, and set a key")
    path = url.path.rstrip("/")
    if path.endswith("/chat/completions"):
        raise HarnessError(f"judge address {address!r} goes too far: leave /chat/completions out")
    return str(url.copy_with(path=path or "/v1"))


def _key() -> str:
    """Of the environment; HarnessError where it cannot be sent."""
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not (key.isascii() and key.isprintable()):
        raise HarnessError("OPENAI_API_KEY holds characters that no key has: set it again")
    return key
