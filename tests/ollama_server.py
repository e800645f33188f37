"""A small real HTTP server that speaks what a judge needs of Ollama's API and of OpenAI's, with faults on demand.

What it says is pluggable: `answer(prompt_text)` gives the probabilities of the first token.
"""

from __future__ import annotations

import contextlib
import json
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[str], Mapping[str, float]]
Fault = Callable[[int], str | None]  # number of the chat request, from 0 → FAULTS or None

FAULTS = ("refused", "malformed", "incomplete", "cut", "slow", "missing", "busy")
SLOW_SECONDS = 1.0
DIGEST = "a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72"


@dataclass(kw_only=True)
class OllamaServer:
    """What the server is to do, and what it was asked."""

    answer: Answer
    models: tuple[str, ...] = ("llama3.2:latest",)
    gives_logprobs: bool = True  # False is an Ollama before 0.12.11, or LM Studio
    refuses: tuple[str, ...] = ()  # fields of a request that get a 400 with their name
    key: str | None = None  # that requests of OpenAI's API have to bring
    lists: bool = True  # whether it answers /v1/models
    retry_after: str = "1"  # beside every "busy"
    fault: Fault = lambda number: None
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)  # bodies of chat requests, as they arrived
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, body: dict[str, Any]) -> int:
        """The number of this chat request."""
        with self._lock:
            self.requests.append(body)
            return len(self.requests) - 1

    def tags(self) -> dict[str, Any]:
        return {"models": [{"name": m, "model": m, "digest": DIGEST, "size": 1} for m in self.models]}

    def listed(self) -> dict[str, Any]:
        """As vLLM lists models, and llama.cpp's server: `created` is the time of asking."""
        pinned = {"owned_by": "tests", "root": "weights/llama", "meta": {"n_params": 134_515_008, "n_ctx": 4096}}
        return {"object": "list", "data": [{"id": m, "created": time.time_ns(), **pinned} for m in self.models]}

    def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        """The reply to one /api/chat request for one token."""
        tokens = self._tokens(body)
        reply: dict[str, Any] = {
            "model": body["model"],
            "created_at": "2026-01-01T00:00:00Z",
            "message": {"role": "assistant", "content": tokens[0]["token"]},
            "done": True,
            "done_reason": "length",
        }
        if self.gives_logprobs and body.get("logprobs"):
            reply["logprobs"] = [{**tokens[0], "top_logprobs": tokens[: body.get("top_logprobs", 0)]}]
        return reply

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        """The reply to one /v1/chat/completions request for one token."""
        tokens = self._tokens(body)
        choice: dict[str, Any] = {
            "index": 0,
            "message": {"role": "assistant", "content": tokens[0]["token"]},
            "finish_reason": "length",
            "logprobs": None,
        }
        if self.gives_logprobs and body.get("logprobs"):
            choice["logprobs"] = {"content": [{**tokens[0], "top_logprobs": tokens[: body.get("top_logprobs", 0)]}]}
        return {"object": "chat.completion", "created": int(time.time()), "model": body["model"], "choices": [choice]}

    def _tokens(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """The first token's alternatives, likeliest first."""
        probabilities = self.answer("\n\n".join(message["content"] for message in body["messages"]))
        ranked = sorted(probabilities.items(), key=lambda item: (-item[1], item[0]))
        return [{"token": t, "logprob": math.log(p), "bytes": list(t.encode())} for t, p in ranked if p > 0]


def now_and_then(
    seed: int, share: float = 0.1, kinds: tuple[str, ...] = ("refused", "slow", "cut", "malformed")
) -> Fault:
    """Faults on this share of the requests, of all these kinds, the same for the same seed."""

    def fault(number: int) -> str | None:
        draw = random.Random(f"{seed}:{number}")
        return draw.choice(kinds) if draw.random() < share else None

    return fault


_NAN = b'{"message": {"role": "assistant", "content": "A"}, "logprobs": [{"token": "A", "logprob": NaN}]}'
# Replies that are JSON, of a kind.
ODD = {"list": b"[1]", "text": b'"x"', "null": b"null", "deep": b"[" * 100_000, "nan": _NAN}


@contextlib.contextmanager
def serve(server: OllamaServer) -> Iterator[OllamaServer]:
    """Run the server on a free port of this machine; its `url` is set inside the block."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def _handler(server: OllamaServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            replies = {"/api/version": {"version": "0.12.11"}, "/api/tags": server.tags()}
            if server.lists:
                replies["/v1/models"] = server.listed()
            if self.path.startswith("/v1/") and self._lacks_key():
                self._reply(401, {"error": {"message": f"Incorrect API key: {self.headers.get('Authorization')}"}})
            else:
                self._reply(200, replies[self.path]) if self.path in replies else self._reply(404, {"error": "no"})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if body.get("model") not in server.models:
                self._reply(404, {"error": f"model '{body.get('model')}' not found"})
            elif self.path == "/api/show":
                self._reply(200, {"details": {"family": "llama"}, "capabilities": ["completion"]})
            elif self.path not in ("/api/chat", "/v1/chat/completions"):
                self._reply(404, {"error": "no"})
            elif named := [name for name in server.refuses if name in body]:
                server.count(body)
                self._reply(400, {"error": {"message": f"{named[0]} is not supported", "code": 400}})
            else:
                self._chat(body, server.fault(server.count(body)))

        def _lacks_key(self) -> bool:
            return server.key is not None and self.headers.get("Authorization") != f"Bearer {server.key}"

        def _chat(self, body: dict[str, Any], fault: str | None) -> None:
            answer = server.chat if self.path == "/api/chat" else server.completion
            if fault == "busy":
                self._reply(429, {"error": "too many requests"}, {"Retry-After": server.retry_after})
            elif fault == "refused":
                self._reply(500, {"error": "model runner has stopped"})
            elif fault == "missing":
                self._reply(404, {"error": "model is gone"})
            elif fault == "malformed":
                self._send(200, b'{"message": {"role": "assist')
            elif fault in ODD:
                self._send(200, ODD[fault])
            elif fault == "incomplete":
                self._reply(200, {"done": True})
            elif fault == "cut":
                self._send(200, json.dumps(answer(body)).encode(), cut_at=20)
            else:
                time.sleep(SLOW_SECONDS if fault == "slow" else 0)
                self._reply(200, answer(body))

        def _reply(self, status: int, value: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
            self._send(status, json.dumps(value).encode(), headers=headers)

        def _send(
            self, status: int, content: bytes, cut_at: int | None = None, headers: Mapping[str, str] | None = None
        ) -> None:
            with contextlib.suppress(ConnectionError):  # a client that gave up on a slow reply is gone
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content[:cut_at])

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the tests read `requests`."""

    return Handler
