"""A server on this machine that speaks as much of the Hugging Face Hub's API as fetching a model takes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Repository:
    """What one repository holds, by revision, and who may read it."""

    revisions: dict[str, dict[str, bytes]]  # commit → files
    branches: dict[str, str] = field(default_factory=lambda: {"main": COMMIT})
    token: str = ""  # needed for the files, if any
    cut: str = ""  # a file that breaks off half way


@dataclass
class HubServer:
    """The repositories by name, and what was asked for."""

    repositories: dict[str, Repository]
    url: str = ""
    asked: list[str] = field(default_factory=list)
    failing: int = 0  # an HTTP status given to everything


@contextlib.contextmanager
def serving(repositories: dict[str, Repository]) -> Iterator[HubServer]:
    """The server, for as long as it is entered."""
    hub = HubServer(repositories)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.hub.asked.append(f"{self.command} {path}")
        if self.hub.failing:
            self._say(self.hub.failing, b"out of order")
        elif path.startswith("api/models/"):
            self._api(path.removeprefix("api/models/").split("/"))
        else:
            repo, _, rest = path.partition("/resolve/")
            self._file(repo, *rest.split("/", 1))

    def _api(self, parts: list[str]) -> None:
        """Repository info (`ORG/NAME/revision/REV`) and the list of its files (`ORG/NAME/tree/REV`)."""
        name, rest = "/".join(parts[:2]), parts[2:]
        found = self._find(name, rest[1] if len(rest) > 1 else "main")
        if found is None:
            return
        repository, commit = found
        files = repository.revisions[commit]
        if rest[:1] == ["tree"]:
            listed: Any = [
                {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for path, content in files.items()
            ]
        else:
            listed = {"_id": "1", "id": name, "modelId": name, "sha": commit}
            listed |= {"siblings": [{"rfilename": path} for path in files]}
        self._say(200, json.dumps(listed).encode(), {"Content-Type": "application/json"})

    def _file(self, name: str, revision: str, path: str) -> None:
        found = self._find(name, revision)
        if found is None:
            return
        repository, commit = found
        if repository.token and self.headers.get("Authorization") != f"Bearer {repository.token}":
            refused = {"X-Error-Code": "GatedRepo", "X-Error-Message": f"Access to model {name} is restricted."}
            self._say(401, b"", refused)
        elif path not in repository.revisions[commit]:
            self._say(404, b"", {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"})
        else:
            content = repository.revisions[commit][path]
            headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
            self._say(200, content, headers, cut=path == repository.cut)

    def _find(self, name: str, revision: str) -> tuple[Repository, str] | None:
        """The repository and the commit meant; None after having said what is not there, as the Hub says it."""
        repository = self.hub.repositories.get(name)
        if repository is None:
            self._say(401, b'{"error":"Invalid username or password."}', {"X-Error-Message": "Invalid username"})
            return None
        commit = repository.branches.get(revision, revision)
        if commit not in repository.revisions:
            self._say(404, b"", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
            return None
        return repository, commit

    def _say(self, status: int, content: bytes, headers: dict[str, str] | None = None, *, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[: len(content) // 2] if cut else content)

    def log_message(self, format: str, *args: object) -> None:
        """Tests are quiet."""
