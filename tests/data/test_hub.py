"""Data sets of the Hub, through the real `datasets` library on files of this machine: no test reaches for a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from harness.data import hub
from harness.data.hub import HubSet
from harness.data.rows import load_pairs
from harness.errors import HarnessError

ROWS = [{"prompt": f"Question {n}?", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(5)]
Load = Callable[..., Any]
REAL: Load = datasets.load_dataset


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A repository `me/set` whose splits are Parquet files here; what was asked of the library."""
    files = {}
    for split, rows in (("train", ROWS), ("test", ROWS[:2])):
        files[split] = str(tmp_path / f"{split}.parquet")
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), files[split])
    calls: list[dict[str, Any]] = []

    def load(repo: str, config: str | None, **asked: Any) -> Any:
        calls.append({"repo": repo, "config": config, **asked})
        chosen = {"cache_dir": str(tmp_path / "hub"), "split": asked["split"], "streaming": asked["streaming"]}
        return REAL("parquet", data_files=files, **chosen)

    monkeypatch.setattr(datasets, "load_dataset", load)
    return calls


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def load(*names: Any, **asked: Any) -> Any:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load)


@pytest.mark.parametrize("offline", [False, True])
def test_a_split_comes_out_as_its_pairs(
    tmp_path: Path, asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    """Streamed where there is a network, else from the library's own cache."""
    monkeypatch.setattr(hub, "_offline", lambda: offline)
    data = load_pairs("hf:me/set/main@v1:train", cache=tmp_path)
    assert [(p.question, p.chosen, p.rejected) for p in data.pairs] == [tuple(row.values()) for row in ROWS]
    assert asked == [{"repo": "me/set", "config": "main", "revision": "v1", "split": "train", "streaming": not offline}]


def test_the_digest_is_the_contents_with_and_without_a_network(
    tmp_path: Path, asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a run begun online goes on offline, where no commit is known."""
    digests = set()
    for offline, commit in ((False, "a" * 40), (True, None), (False, "b" * 40)):
        monkeypatch.setattr(hub, "_offline", lambda offline=offline: offline)
        monkeypatch.setattr(HubSet, "_commit", lambda self, commit=commit: commit)
        digests.add(load_pairs("hf:me/set:train", cache=tmp_path / str(commit)).digest)
    assert len(digests) == 1
    assert load_pairs("hf:me/set:test", cache=tmp_path).digest not in digests


def test_a_set_of_several_splits_has_to_be_told_which(tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    """The error writes it out."""
    with pytest.raises(HarnessError, match=r"has the splits train, test: say which, as hf:me/set:train"):
        load_pairs("hf:me/set", cache=tmp_path)


def test_a_mistyped_split_gets_a_suggestion(tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    """The library's own list of splits is used."""
    with pytest.raises(HarnessError, match="has no 'tain': did you mean 'train'"):
        load_pairs("hf:me/set:tain", cache=tmp_path)


@pytest.mark.parametrize(
    ("error", "offline", "problem"),
    [
        (
            datasets.exceptions.DatasetNotFoundError("Dataset 'me/set' is a gated dataset on the Hub."),
            False,
            "is gated",
        ),
        (datasets.exceptions.DatasetNotFoundError("Dataset 'me/set' doesn't exist on the Hub"), False, "no such data"),
        (ConnectionError("Couldn't reach 'me/set' on the Hub"), True, "HF_HUB_OFFLINE forbids"),
        (ValueError("one line\nand another"), False, "ValueError: one line and another"),
        (RuntimeError("Dataset scripts are no longer supported"), False, "cannot be read (RuntimeError"),
    ],
)
def test_what_the_hub_refuses_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, offline: bool, problem: str
) -> None:
    """Absent, gated, offline without a cache, or unreadable: what to do is said."""
    failing(monkeypatch, error)
    monkeypatch.setattr(hub, "_offline", lambda: offline)
    with pytest.raises(HarnessError) as caught:
        load_pairs("hf:me/set:train", cache=tmp_path)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_network_and_cache_the_library_itself_is_answered_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real library, offline: one line."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(HarnessError, match="hf:nobody/nothing:train"):
        load_pairs("hf:nobody/nothing:train", cache=tmp_path)


@pytest.mark.parametrize("name", ["hf:set", "hf:", "hf:me/set:train:test", "hf:me/set:train[:10%]", "hf:../set:train"])
def test_a_name_that_is_none_shows_how_it_is_written(tmp_path: Path, name: str) -> None:
    """Before anything is asked."""
    with pytest.raises(HarnessError, match="write hf:ORG/NAME:split"):
        load_pairs(name, cache=tmp_path)


def test_all_parts_of_a_name_are_read() -> None:
    """Configuration, revision and split are each left out or given."""
    found = HubSet.parse("hf:me/a.set-1/main_2@0a1b:train_prefs")
    assert (found.repo, found.config, found.revision, found.split) == ("me/a.set-1", "main_2", "0a1b", "train_prefs")
    assert HubSet.parse("hf:me/set").split is None
