"""The cache stays within its limit, and what is in use stays in it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from filelock import FileLock

from harness import cache
from harness.errors import HarnessError

SIZE = 1_000


def write_node(root: Path, name: str, used: int) -> Path:
    """A node's folder of SIZE bytes, last used `used` seconds after the epoch."""
    folder = root / "nodes" / name
    folder.mkdir(parents=True)
    (folder / "checkpoint.safetensors").write_bytes(bytes(SIZE))
    os.utime(folder, (used, used))
    return folder


def write_model(root: Path) -> Path:
    path = root / "models" / "model.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(10 * SIZE))
    os.utime(path, (1, 1))
    return path


def folders(root: Path) -> set[str]:
    return {path.name for path in (root / "nodes").iterdir() if path.is_dir()}


def test_the_longest_unused_nodes_go_first(tmp_path: Path) -> None:
    """Of four nodes with room for two, the two used last stay."""
    for name, used in {"b": 200, "a": 100, "d": 400, "c": 300}.items():
        write_node(tmp_path, name, used)
    cache.prune(tmp_path, limit_bytes=2 * SIZE)
    assert folders(tmp_path) == {"c", "d"}


def test_nothing_goes_within_the_limit(tmp_path: Path) -> None:
    """A cache of just its limit loses nothing."""
    write_node(tmp_path, "a", 100)
    assert cache.prune(tmp_path, limit_bytes=SIZE) == 0
    assert (tmp_path / "nodes" / "a").exists()


def test_pruning_says_how_many_bytes_it_freed(tmp_path: Path) -> None:
    """The number is of the nodes that went."""
    for name, used in {"a": 100, "b": 200, "c": 300}.items():
        write_node(tmp_path, name, used)
    assert cache.prune(tmp_path, limit_bytes=SIZE) == 2 * SIZE


def test_a_model_is_never_deleted(tmp_path: Path) -> None:
    """Models count towards the limit, but a fetched one stays, however old and large."""
    write_node(tmp_path, "a", 100)
    model = write_model(tmp_path)
    cache.prune(tmp_path, limit_bytes=0)
    assert model.exists()
    assert not (tmp_path / "nodes" / "a").exists()


def test_a_node_that_is_being_made_is_never_deleted(tmp_path: Path) -> None:
    """Another run may be filling it, while younger nodes have come."""
    making = write_node(tmp_path, ".making-x", int(time.time()) - 3600)
    cache.prune(tmp_path, limit_bytes=0)
    assert making.exists()


def test_what_a_killed_run_left_is_deleted(tmp_path: Path) -> None:
    """Nobody makes a node for two days; it goes even where there is room."""
    abandoned = write_node(tmp_path, ".making-x", int(time.time()) - 2 * 24 * 3600)
    cache.prune(tmp_path)
    assert not abandoned.exists()


def test_a_node_that_another_run_holds_is_never_deleted(tmp_path: Path) -> None:
    """It is being read or made; the next one goes instead."""
    held, other = write_node(tmp_path, "a", 100), write_node(tmp_path, "b", 200)
    with FileLock(held.with_suffix(".lock")):
        cache.prune(tmp_path, limit_bytes=SIZE)
    assert (held.exists(), other.exists()) == (True, False)


def test_a_file_that_vanishes_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run tidies up while this one looks round."""
    write_node(tmp_path, "a", 100)
    monkeypatch.setattr(Path, "is_file", lambda path: True)
    (tmp_path / "nodes" / "gone").symlink_to(tmp_path / "nowhere")
    assert cache.size_bytes(tmp_path) >= SIZE


def test_asking_for_a_node_makes_it_the_last_used(tmp_path: Path) -> None:
    """A node that a run reads is not the next to go."""
    digest = "0" * 64
    write_node(tmp_path, digest[:32], 100)
    write_node(tmp_path, "b", 200)
    cache.node_folder(tmp_path, digest)
    cache.prune(tmp_path, limit_bytes=SIZE)
    assert folders(tmp_path) == {digest[:32]}


def test_the_environment_says_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PREFBENCH_CACHE is honoured, and made."""
    monkeypatch.setenv("PREFBENCH_CACHE", str(tmp_path / "mine"))
    assert cache.cache_root() == tmp_path / "mine"
    assert (tmp_path / "mine").is_dir()


def test_a_cache_that_cannot_be_made_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in its place is the user's to mend."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PREFBENCH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(HarnessError, match="set PREFBENCH_CACHE"):
        cache.cache_root()
