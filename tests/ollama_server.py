"""A small real HTTP server that speaks the part of Ollama's API that a judge needs, with faults on demand.

What it says is pluggable: `answer(prompt_text)` gives the probabilities of the first token.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[str], Mapping[str, float]]
Fault = Callable[[int], str | None]  # number of the chat request, from 0 → FAULTS or None

FAULTS = ("refused", "malformed", "incomplete", "cut", "slow", "missing")
SLOW_SECONDS = 1.0
DIGEST = "a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72"


@dataclass(kw_only=True)
class OllamaServer:
    """What the server is to do, and what it was asked."""

    answer: Answer
    models: tuple[str, ...] = ("llama3.2:latest",)
    gives_logprobs: bool = True  # False is a server before 0.12.11
    fault: Fault = lambda number: None
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)  # bodies of /api/chat, as they arrived
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, body: dict[str, Any]) -> int:
        """The number of this chat request."""
        with self._lock:
            self.requests.append(body)
            return len(self.requests) - 1

    def tags(self) -> dict[str, Any]:
        return {"models": [{"name": m, "model": m, "digest": DIGEST, "size": 1} for m in self.models]}

    def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        """The reply to one /api/chat request for one token."""
        probabilities = self.answer("\n\n".join(message["content"] for message in body["messages"]))
        ranked = sorted(probabilities.items(), key=lambda item: (-item[1], item[0]))
        tokens = [{"token": t, "logprob": math.log(p), "bytes": list(t.encode())} for t, p in ranked if p > 0]
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
            self._reply(200, replies[self.path]) if self.path in replies else self._reply(404, {"error": "no"})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if body.get("model") not in server.models:
                self._reply(404, {"error": f"model '{body.get('model')}' not found"})
            elif self.path == "/api/show":
                self._reply(200, {"details": {"family": "llama"}, "capabilities": ["completion"]})
            else:
                self._chat(body, server.fault(server.count(body)))

        def _chat(self, body: dict[str, Any], fault: str | None) -> None:
            if fault == "refused":
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
                self._send(200, json.dumps(server.chat(body)).encode(), cut_at=20)
            else:
                time.sleep(SLOW_SECONDS if fault == "slow" else 0)
                self._reply(200, server.chat(body))

        def _reply(self, status: int, value: Mapping[str, Any]) -> None:
            self._send(status, json.dumps(value).encode())

        def _send(self, status: int, content: bytes, cut_at: int | None = None) -> None:
            with contextlib.suppress(ConnectionError):  # a client that gave up on a slow reply is gone
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[:cut_at])

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the tests read `requests`."""

    return Handler
