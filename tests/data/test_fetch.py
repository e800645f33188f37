"""Fetching by name, from a real server on this machine: whole and right, or one line and nothing left."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness.data.fetch import RASBT, RemoteFile, fetch
from harness.errors import HarnessError

CONTENT = b'[{"prompt": "p", "chosen": "c", "rejected": "r"}]'
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT: whole, cut, other bytes, or not at all, by path."""

    requests = 0

    def do_GET(self) -> None:
        type(self).requests += 1
        if "missing" in self.path:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        body = {"/cut/rows.json": CONTENT[:10], "/other/rows.json": CONTENT[::-1]}.get(self.path, CONTENT)
        self.wfile.write(body)
        return None

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Handler.requests = 0
    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    thread.join()
    served.server_close()


def remote(url: str) -> RemoteFile:
    return RemoteFile(name="book", url=url, sha256=SHA256)


def test_a_whole_file_is_kept(server: str, tmp_path: Path) -> None:
    """The cache holds the bytes that were asked for, under the file's own name."""
    path = fetch(remote(f"{server}/whole/rows.json"), tmp_path)
    assert path.name == "rows.json"
    assert path.read_bytes() == CONTENT


def test_a_kept_file_is_not_fetched_again(server: str, tmp_path: Path) -> None:
    """The second call asks no server."""
    for _ in range(2):
        fetch(remote(f"{server}/whole/rows.json"), tmp_path)
    assert Handler.requests == 1


def test_a_damaged_file_is_fetched_again(server: str, tmp_path: Path) -> None:
    """A cache that was changed is not believed."""
    file = remote(f"{server}/whole/rows.json")
    fetch(file, tmp_path).write_bytes(b"[]")
    assert fetch(file, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("kind", "reason"), [("cut", "cut after 10 bytes"), ("other", "its sha256 is"), ("missing", "404")]
)
def test_a_bad_download_leaves_nothing(server: str, tmp_path: Path, kind: str, reason: str) -> None:
    """One line with the reason and the way round it, and an empty cache."""
    with pytest.raises(HarnessError, match=reason) as caught:
        fetch(remote(f"{server}/{kind}/rows.json"), tmp_path)
    assert "pass its path" in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_no_server_is_one_line(tmp_path: Path) -> None:
    """A machine without a network is told to bring the file."""
    with pytest.raises(HarnessError, match="pass its path"):
        fetch(remote("http://127.0.0.1:9/rows.json"), tmp_path)


def test_the_books_file_is_asked_for_by_name() -> None:
    """`rasbt` is fetched from the book's repository and checked against the known digest."""
    assert RASBT.url.startswith("https://raw.githubusercontent.com/rasbt/LLMs-from-scratch/main/ch07/")
    assert RASBT.filename == "instruction-data-with-preference.json"
    assert len(RASBT.sha256) == 64
