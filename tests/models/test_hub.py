"""A model of the Hub is fetched once and pinned by its commit, or one line says what to do.

Every fetch is a process of its own with the environment that a user would set, against a server on this machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models.failure import ModelError
from models.hub import SHORT_NAMES, HubModel, hub_model
from tests.hub_server import COMMIT, HubServer, Repository, serving

TINY = {
    "config.json": b"{}",
    "tokenizer.json": b'{"a": 1}',
    "chat_template.jinja": b"{{ messages }}",
    "model.safetensors": b"weights" * 100,
    "pytorch_model.bin": b"a pickle",
    "onnx/model.safetensors": b"another format",
    "consolidated.safetensors": b"the same again",
    "README.md": b"# A model",
}
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
INDEX = json.dumps({"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}).encode()
SHARDED = {
    "config.json": b"{}",
    "model.safetensors.index.json": INDEX,
    **{name: name.encode() for name in SHARDS},
}
SCRIPT = """
import sys
from models.failure import ModelError
from models.hub import hub_model
from models.hub_fetch import fetch_model
try:
    print(fetch_model(hub_model(sys.argv[1])).folder)
except ModelError as error:
    sys.exit(f"refused: {error}")
"""


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """A Hub with these repositories."""
    repositories = {
        "org/tiny": Repository({COMMIT: TINY, "f" * 40: TINY | {"config.json": b'{"old": 1}'}}),
        "org/sharded": Repository({COMMIT: SHARDED}),
        "org/gated": Repository({COMMIT: TINY}, token="hf_secret"),
        "org/pickled": Repository({COMMIT: {"config.json": b"{}", "pytorch_model.bin": b"a pickle"}}),
        "org/gguf": Repository({COMMIT: {"model-q4.gguf": b"GGUF"}}),
        "org/lora": Repository({COMMIT: {"adapter_config.json": b"{}", "adapter_model.safetensors": b"x"}}),
        "org/lacking": Repository({COMMIT: {k: v for k, v in SHARDED.items() if k != SHARDS[1]}}),
        "org/cut": Repository({COMMIT: TINY}, cut="model.safetensors"),
    }
    with serving(repositories) as server:
        yield server


Fetch = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def fetch(hub: HubServer, tmp_path: Path) -> Fetch:
    """Fetch a source in a new process, by default from the server into a folder of the test's."""

    def fetched(source: str, script: str = SCRIPT, **environment: str) -> subprocess.CompletedProcess[str]:
        own = {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_TELEMETRY": "1"}
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        command = [sys.executable, "-c", script, source]
        return subprocess.run(command, env=inherited | own | environment, capture_output=True, text=True, timeout=60)

    return fetched


def folder_of(ended: subprocess.CompletedProcess[str]) -> Path:
    assert (ended.returncode, ended.stderr) == (0, "")
    return Path(ended.stdout.strip())


def line_of(ended: subprocess.CompletedProcess[str]) -> str:
    assert ended.returncode == 1
    lines = ended.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("refused: ")
    return lines[0]


def test_only_what_decides_the_model_is_fetched(fetch: Fetch) -> None:
    """Configuration, tokenizer, template and safetensors at the top: no pickle, no second copy in another format."""
    folder = folder_of(fetch("hf:org/tiny"))
    found = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    wanted = ("config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors")
    assert found == {name: TINY[name] for name in wanted}
    assert folder.name == COMMIT


CONFIG = """
import sys
from models.hub import hub_model
from models.hub_fetch import fetch_config
print(fetch_config(hub_model(sys.argv[1])))
"""


@pytest.mark.parametrize(("source", "config"), [("hf:org/tiny", "{}"), ("hf:org/gguf", "None"), ("hf:no/one", "None")])
def test_a_configuration_is_fetched_alone(fetch: Fetch, hub: HubServer, source: str, config: str) -> None:
    """Small, before gigabytes; why there is none is left to the whole fetch to say."""
    ended = fetch(source, script=CONFIG)
    assert (ended.returncode, ended.stdout.strip(), ended.stderr) == (0, config, "")
    assert not [asked for asked in hub.asked if "safetensors" in asked]


def test_it_is_fetched_once_into_hf_home(fetch: Fetch, hub: HubServer, tmp_path: Path) -> None:
    """The second time only the branch is asked for; all of it lies in HF_HOME."""
    first = folder_of(fetch("hf:org/tiny"))
    hub.asked.clear()
    assert folder_of(fetch("hf:org/tiny")) == first
    assert hub.asked == ["GET api/models/org/tiny/revision/main"]
    assert first.is_relative_to(tmp_path / "home")


def test_offline_the_cache_is_enough(fetch: Fetch, hub: HubServer) -> None:
    """By branch and by commit, with HF_HUB_OFFLINE, and where nobody answers."""
    first = folder_of(fetch("hf:org/tiny"))
    hub.asked.clear()
    offline = [fetch(source, HF_HUB_OFFLINE="1") for source in ("hf:org/tiny", f"hf:org/tiny@{COMMIT}")]
    unanswered = fetch("hf:org/tiny", HF_ENDPOINT="http://127.0.0.1:9")
    assert {folder_of(ended) for ended in (*offline, unanswered)} == {first}
    assert hub.asked == []


def test_a_revision_is_its_own_model(fetch: Fetch) -> None:
    """An older commit beside the branch."""
    folder = folder_of(fetch(f"hf:org/tiny@{'f' * 40}"))
    assert (folder.name, (folder / "config.json").read_bytes()) == ("f" * 40, b'{"old": 1}')


def test_all_shards_are_fetched(fetch: Fetch) -> None:
    """Those that the index names."""
    folder = folder_of(fetch("hf:org/sharded"))
    assert sorted(file.name for file in folder.iterdir()) == sorted(SHARDED)


def test_a_token_opens_a_gated_model(fetch: Fetch) -> None:
    """HF_TOKEN, as the library reads it."""
    assert folder_of(fetch("hf:org/gated", HF_TOKEN="hf_secret")).name == COMMIT


@pytest.mark.parametrize(
    ("source", "environment", "parts"),
    [
        ("hf:org/gated", {}, ["is gated", "accept its terms at https://huggingface.co/org/gated", "HF_TOKEN"]),
        ("hf:org/gated", {"HF_TOKEN": "hf_wrong"}, ["is gated", "HF_TOKEN"]),
        ("hf:org/absent", {}, ["no model 'hf:org/absent' on the Hub that you may read", "HF_TOKEN"]),
        ("hf:org/tiny@v9", {}, ["no revision 'v9'", "org/tiny/commits"]),
        ("hf:org/tiny", {"HF_HUB_OFFLINE": "1"}, ["not whole in the Hub's cache", "HF_HUB_OFFLINE forbids"]),
        ("hf:org/tiny", {"HF_ENDPOINT": "http://127.0.0.1:9"}, ["could not fetch", "check the network and run again"]),
        ("hf:org/pickled", {}, ["only pickled weights, which can run code", "safe_serialization=True"]),
        ("hf:org/gguf", {}, ["only GGUF files", "give its path"]),
        ("hf:org/lora", {}, ["is an adapter, not a model", "merge it"]),
        ("hf:org/lacking", {}, ["lacks the shard model-00002-of-00002.safetensors (1 of 2"]),
        ("hf:org/tiny", {"HF_HOME": "/dev/null/home"}, ["cannot be kept in the Hub's cache", "set HF_HOME"]),
    ],
)
def test_what_cannot_be_fetched_is_one_line(
    source: str, environment: dict[str, str], parts: list[str], fetch: Fetch
) -> None:
    """It names the model and says what to do."""
    line = line_of(fetch(source, **environment))
    assert all(part in line for part in (source, *parts)), line


def test_a_hub_out_of_order_is_one_line(fetch: Fetch, hub: HubServer) -> None:
    """A status that is nobody's fault here."""
    hub.failing = 500
    assert "check the network and run again" in line_of(fetch("hf:org/tiny"))


@pytest.mark.slow
def test_a_download_cut_off_is_one_line_and_can_go_on(fetch: Fetch, hub: HubServer) -> None:
    """After the library's own retries; the next run has the whole file."""
    assert "check the network and run again" in line_of(fetch("hf:org/cut"))
    hub.repositories["org/cut"].cut = ""
    assert (folder_of(fetch("hf:org/cut")) / "model.safetensors").read_bytes() == TINY["model.safetensors"]


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever file did not fit."""
    import errno

    import huggingface_hub

    from models.hub_fetch import fetch_model

    def full(*args: object, **settings: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    with pytest.raises(
        ModelError, match=r"model 'hf:org/tiny' does not fit on the disk of .*: make room, or set HF_HO"
    ):
        fetch_model(HubModel(repo="org/tiny"))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("hf:org/name", HubModel(repo="org/name")),
        ("hf:org/na.me-1_b@v1.0", HubModel(repo="org/na.me-1_b", revision="v1.0")),
        ("hf:org/name@refs/pr/3", HubModel(repo="org/name", revision="refs/pr/3")),
        ("gpt2", HubModel(repo="openai-community/gpt2")),
        ("hf:gpt2", HubModel(repo="openai-community/gpt2")),
        ("distilgpt2@main", HubModel(repo="distilbert/distilgpt2", revision="main")),
    ],
)
def test_a_source_names_a_repository(source: str, expected: HubModel) -> None:
    """With its revision, or by a short name."""
    assert hub_model(source) == expected


@pytest.mark.parametrize("source", ["smollm2-135m", "runs/model", "/models/gpt2", "model.gguf", "org/name", ""])
def test_what_is_no_hub_source_is_left_to_others(source: str) -> None:
    """Paths and names."""
    assert hub_model(source) is None


@pytest.mark.parametrize(
    ("source", "meant"),
    [
        ("hf://org/name", "hf:org/name"),
        ("hf:/org/name", "hf:org/name"),
        ("HF:org/name", "hf:org/name"),
        ("hf:org/name#v1", "hf:org/name@v1"),
        ("hf:org/name:v1", "hf:org/name@v1"),
        ("https://huggingface.co/org/name", "hf:org/name"),
        ("https://huggingface.co/org/name/tree/v1", "hf:org/name@v1"),
        ("https://huggingface.co/org/name/blob/main/config.json", "hf:org/name@main"),
        ("huggingface.co/org/name", "hf:org/name"),
        ("hf.co/org/name/", "hf:org/name"),
        ("hf:org/ name", "hf:org/name"),
        ("hf:gpt-2", "gpt2"),
    ],
)
def test_a_misspelt_hub_source_gets_a_suggestion(source: str, meant: str) -> None:
    """The line names what was probably meant."""
    with pytest.raises(ModelError, match=rf"did you mean '{meant}'\?"):
        hub_model(source)


@pytest.mark.parametrize(
    "source", ["hf:", "hf:name", "hf:org/", "hf:/name", "hf:org/name@", "hf:a/b/c", "hf:../x", "hf:org/na me!"]
)
def test_a_hopeless_hub_source_is_told_the_form(source: str) -> None:
    """No guess is better than a wild one."""
    with pytest.raises(ModelError, match=r"names no repository of the Hub: write hf:ORG/NAME"):
        hub_model(source)


def test_short_names_are_no_paths() -> None:
    """bench.toml keeps them as they are, whatever lies in the folder that a command is typed in."""
    from harness.settings import NAMES

    assert set(SHORT_NAMES) <= set(NAMES)
