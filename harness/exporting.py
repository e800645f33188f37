"""The conductor of `export`: a trial's final checkpoint out of a run, in the form that other tools take."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from harness.errors import HarnessError
from harness.framing import Frame, frame_of
from harness.phases import Phases
from harness.records import RunRecord
from harness.recovering import Recovered, Recovery
from harness.settings import read_bench
from models.decoder import Decoder
from models.families import KNOWN
from models.low_rank import lora_of, merged
from models.peft_format import write_peft
from models.writing import write_folder, write_gguf
from reports.load import load_run
from reports.model_card import Exported, base_of, model_card
from reports.sides import Side, find_side

FORMS = ("hf", "gguf", "peft")
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class ExportCommand:
    """What `export` was asked for on the command line."""

    run: Path
    trial: str  # as a report names it, or RECIPE@SEED, or "anchor"
    to: str
    out: Path
    dtype: str = "float32"  # of hf's weights: what was scored, to the last digit; half the size in the others

    def carry_out(self, console: Console, progress: Console) -> None:
        """Write the folder, whole or not at all. What the user can mend is raised before."""
        self._refuse_nonsense()
        record = load_run(self.run)
        side = find_side(record, self.trial)
        bench = read_bench(self.run / "bench.toml")
        if self.to == "peft" and not bench.asked.adapter:
            raise HarnessError(f"{side.name} has no adapter, since this bench trained all weights: --to hf")
        with Phases(progress) as phases, _whole(self.out) as folder:  # first, lest it be trained again for nowhere
            name = "anchor" if side.trial is None else side.trial.name
            found = Recovery(
                folder=self.run,
                bench=bench,
                trial=name,
                say=phases.say,
                begin=phases.begin,
                foreign_refused=_no_gguf(bench.asked.model) if self.to == "gguf" else "",
            ).find()
            if not found.same_log:
                phases.say(f"{name} went another way this time: its scores are those of the checkpoint that was lost")
            phases.begin(f"writing {self.out}")
            exported = self._write(record, side, found, bench.asked.model, folder)
        console.print(f"{side.name} is in {self.out}: {exported.hint}", markup=False, highlight=False, soft_wrap=True)

    def _refuse_nonsense(self) -> None:
        for flag, value, known in (("--to", self.to, FORMS), ("--dtype", self.dtype, DTYPES)):
            if value not in known:
                close = difflib.get_close_matches(value, known, 1, 0.5)
                hint = f"did you mean {close[0]!r}?" if close else f"it is one of {', '.join(known)}"
                raise HarnessError(f"{flag} {value!r} is not known: {hint}")
        if self.dtype != "float32" and self.to != "hf":
            raise HarnessError(f"--dtype {self.dtype} is for --to hf: {self.to} files have a dtype of their own")
        if self.out.is_symlink() or (self.out.exists() and not self.out.is_dir()):
            raise HarnessError(f"{self.out} is a {'link' if self.out.is_symlink() else 'file'}: name a new folder")
        if self.out.is_dir() and any(self.out.iterdir()):
            raise HarnessError(f"{self.out} holds files already: name a new folder, or delete that one")

    def _write(self, run: RunRecord, side: Side, found: Recovered, asked_model: str, folder: Path) -> Exported:
        """Everything into a folder that is still hidden."""
        frame = frame_of(run.bench.template, found.tokens)
        name = _slug(f"{run.bench.model.partition('@')[0].rpartition('/')[2]}-{side.name}")
        exported = Exported(
            form=self.to,
            dtype={"hf": self.dtype, "gguf": "float16"}.get(self.to, "float32"),
            name=name,
            before=frame.before,
            after=frame.after,
            retrained=found.retrained,
            same_log=found.same_log,
        )
        if self.to == "gguf":
            self._write_gguf(found, frame, folder, exported)
        elif self.to == "hf":
            self._write_hf(found, frame, folder)
        else:
            write_peft(found.policy, folder, base_of(run)[0] or asked_model)
            _write_tokens(found, frame, folder)
        (folder / "README.md").write_text(model_card(run, side, exported), encoding="utf-8", newline="\n")
        return exported

    def _write_hf(self, found: Recovered, frame: Frame, folder: Path) -> None:
        end = found.tokens.end
        write_folder(_plain(found.policy), folder, dtype=getattr(torch, self.dtype), end=end)
        _write_tokens(found, frame, folder)
        generation = {"eos_token_id": end, "pad_token_id": end, "do_sample": False}
        (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")

    def _write_gguf(self, found: Recovered, frame: Frame, folder: Path, exported: Exported) -> None:
        tokens = found.tokens
        if frame.template != "chat":
            tokens = dataclasses.replace(tokens, chat_template=frame.jinja)
        (folder / "Modelfile").write_text(frame.modelfile(exported.weights), encoding="utf-8", newline="\n")
        write_gguf(_plain(found.policy), folder / exported.weights, tokens, name=exported.name)


def _no_gguf(model: str) -> str:
    """Why a model that only transformers computes has no such file, and the way out."""
    return f"model {model!r} is computed by transformers, and GGUF is written for {', '.join(KNOWN)} alone: --to hf"


def _plain(policy: Decoder) -> Decoder:
    """The policy as one set of weights."""
    return policy if lora_of(policy) is None else merged(policy)


def _write_tokens(found: Recovered, frame: Frame, folder: Path) -> None:
    """The tokenizer's files; their chat template is the one that the model was trained with."""
    found.tokens.write_folder(folder)
    if frame.template == "chat":
        return
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    settings.pop("chat_template", None)
    path.write_text(json.dumps(settings, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(frame.jinja, encoding="utf-8", newline="")


@contextlib.contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """A folder to fill, which is `target` once all is in it; gone without a trace where something fails."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        hidden = tempfile.TemporaryDirectory(dir=target.parent, prefix=".exporting-")
    except OSError as error:
        raise HarnessError(f"{target} cannot be made ({error.strerror or error}): name another folder") from error
    with hidden as name:
        making = Path(name) / "export"
        making.mkdir()
        yield making
        for file in making.rglob("*"):
            if file.is_file():
                file.chmod(0o644)  # safetensors writes files that only their owner can read
        making.replace(target)


def _slug(name: str) -> str:
    """A name that files, Ollama and vLLM take."""
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-.") or "model"
