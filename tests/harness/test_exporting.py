"""`export`: what comes out of a run is what was scored, in the form that other tools take."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import exporting
from harness.records import Completion, HeldOutPrompt, Ledger
from harness.settings import read_bench
from harness.store import read_json, read_jsonl
from models.checkpoint import load_checkpoint
from models.decoder import Decoder
from models.lora import parse_lora
from models.low_rank import with_adapter
from models.sources import find_model
from models.tokens import Tokens
from tests.harness.door import Finished, harness, write_sums
from tests.tiny import logits_of

DPO = "dpo_learning_rate=0.01"  # high enough for its answers to be its own


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """A run that is done, its cache, and what it was made of."""

    root: Path
    model: Path
    extra: tuple[str, ...] = ()

    @property
    def run(self) -> Path:
        return self.root / "run"

    def make(self) -> None:
        words = ("--recipes", "dpo:learning_rate=0.01", "--budget", "96pairs", "--judge", "rule:gold", *self.extra)
        sizes = ("--eval-prompts", 6, "--max-new-tokens", 8, "--dtype", "float32")
        data = write_sums(self.root / "sums.jsonl", 80)
        ended = harness(
            "run", "--model", self.model, "--data", data, *words, *sizes, "--out", self.run, cache=self.root / "cache"
        )
        assert ended.code == 0, ended.err

    def export(self, out: Path, *words: object, trial: str = DPO) -> Finished:
        return harness("export", self.run, trial, out, *words, cache=self.root / "cache")

    def checkpoint(self, trial: str = DPO) -> Path:
        """Where the cache has the trial's weights."""
        digest = read_json(self.run / "trials" / f"{trial}@0" / "ledger.json", Ledger).stages[-1].digest
        return self.root / "cache" / "nodes" / digest[:32] / "checkpoint.safetensors"

    def policy(self) -> tuple[Decoder, Tokens]:
        """The trial's, read straight from the cache."""
        model, tokens = find_model(str(self.model), self.root).load()
        adapter = read_bench(self.run / "bench.toml").asked.adapter
        return load_checkpoint(
            with_adapter(model, parse_lora(adapter)) if adapter else model, self.checkpoint()
        ), tokens

    def copied(self, root: Path) -> Shelf:
        """The same in another place, to be spoilt."""
        shutil.copytree(self.root, root, dirs_exist_ok=True)
        return Shelf(root=root, model=self.model, extra=self.extra)


@pytest.fixture(scope="module")
def shelves(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Callable[..., Shelf]:
    """Runs by their extra flags, each made once."""
    made: dict[tuple[str, ...], Shelf] = {}

    def of(*extra: str) -> Shelf:
        if extra not in made:
            made[extra] = Shelf(root=tmp_path_factory.mktemp("shelf"), model=tiny_model_folder, extra=extra)
            made[extra].make()
        return made[extra]

    return of


@pytest.fixture
def shelf(shelves: Callable[..., Shelf]) -> Shelf:
    return shelves("--template", "alpaca")


def written_by_transformers(folder: Path, questions: list[str], limit: int) -> list[tuple[int, ...]]:
    """Greedy answers, as the card says to ask for them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    answers = []
    for question in questions:
        message = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
        inputs = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
        written = model.generate(**inputs, max_new_tokens=limit)
        answers.append(tuple(written[0, inputs["input_ids"].shape[1] :].tolist()))
    return answers


def recorded(folder: Path) -> dict[str, tuple[int, ...]]:
    return {c.prompt_id: c.token_ids for c in read_jsonl(folder / "completions.jsonl", Completion)}


@pytest.mark.parametrize("template", ["alpaca", "chat"])
@pytest.mark.parametrize("trial", [DPO, "anchor"])
def test_transformers_writes_what_was_judged(
    shelves: Callable[..., Shelf], tmp_path: Path, template: str, trial: str
) -> None:
    """Token by token, from nothing but the folder, for every held-out question; the anchor too."""
    shelf = shelves("--template", template)
    assert shelf.export(tmp_path / "out", trial=trial).code == 0
    prompts = read_jsonl(shelf.run / "prompts.jsonl", HeldOutPrompt)
    answers = written_by_transformers(tmp_path / "out", [p.question for p in prompts], 8)
    own = shelf.run / ("anchor" if trial == "anchor" else f"trials/{trial}@0")
    assert dict(zip([p.prompt_id for p in prompts], answers, strict=True)) == recorded(own)


def test_what_comes_out_is_not_what_went_in(shelf: Shelf, tmp_path: Path) -> None:
    """Else the test above would promise nothing: training changed the answers."""
    assert recorded(shelf.run / f"trials/{DPO}@0") != recorded(shelf.run / "anchor")


TEXT = "Question: What is 3 plus 4?\nAnswer: <|im_end|> é"


def test_our_own_reader_has_the_same_model_back(shelf: Shelf, tmp_path: Path) -> None:
    """Weights to the last bit, tokens to the last id."""
    shelf.export(tmp_path / "out")
    model, tokens = find_model(str(tmp_path / "out"), tmp_path).load()
    policy, before = shelf.policy()
    theirs = model.state_dict()
    assert all(torch.equal(weight, theirs[name]) for name, weight in policy.state_dict().items())
    assert tokens.encode(TEXT) == before.encode(TEXT)
    assert tokens.end == before.end


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_the_size_can_be_asked_for(shelf: Shelf, tmp_path: Path, dtype: str) -> None:
    from safetensors.torch import load_file

    shelf.export(tmp_path / "out", "--dtype", dtype)
    kept = load_file(tmp_path / "out" / "model.safetensors").values()
    assert {weight.dtype for weight in kept} == {getattr(torch, dtype)}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["torch_dtype"] == dtype


def test_generation_stops_where_it_was_trained_to(shelf: Shelf, tmp_path: Path) -> None:
    """At our end token, which also fills up a batch; greedily, if nobody asks for more."""
    shelf.export(tmp_path / "out")
    wanted = {"eos_token_id": 258, "pad_token_id": 258, "do_sample": False}
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text()) == wanted


# GGUF


def test_the_gguf_package_reads_the_policys_weights(shelf: Shelf, tmp_path: Path) -> None:
    """Matrices in 16 bits, norms in 32."""
    import gguf

    assert shelf.export(tmp_path / "out", "--to", "gguf").code == 0
    (file,) = (tmp_path / "out").glob("*.gguf")
    tensors = {t.name: t for t in gguf.GGUFReader(file).tensors}
    policy = shelf.policy()[0]
    embedding = torch.from_numpy(tensors["token_embd.weight"].data.copy())
    assert embedding.dtype == torch.float16
    assert torch.equal(embedding, policy.embedding.weight.half())
    assert torch.equal(torch.from_numpy(tensors["output_norm.weight"].data.copy()), policy.norm.weight)


def test_a_gguf_file_computes_the_same_to_16_bits(shelf: Shelf, tmp_path: Path) -> None:
    """Its logits are those of the policy rounded to F16, to rounding; and near those of the policy."""
    shelf.export(tmp_path / "out", "--to", "gguf")
    (file,) = (tmp_path / "out").glob("*.gguf")
    model, tokens = find_model(str(file), tmp_path).load()
    policy, before = shelf.policy()
    ids = before.encode(TEXT)
    assert tokens.encode(TEXT) == ids
    exact, found = logits_of(policy, ids), logits_of(model, ids)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.ndim > 1:
                parameter.copy_(parameter.half().float())
    assert (logits_of(policy, ids) - found).abs().max() < 1e-5
    assert (exact - found).abs().max() < 5e-3 * exact.abs().max()


def test_the_modelfile_names_the_weights_and_the_frame(shelf: Shelf, tmp_path: Path) -> None:
    shelf.export(tmp_path / "out", "--to", "gguf")
    (file,) = (tmp_path / "out").glob("*.gguf")
    text = (tmp_path / "out" / "Modelfile").read_text()
    assert text.startswith(f"FROM ./{file.name}\n")
    assert "### Instruction:\n{{ .Prompt }}\n\n### Response:\n{{ .Response }}<|im_end|>" in text


# Adapters


@pytest.fixture
def with_lora(shelves: Callable[..., Shelf]) -> Shelf:
    return shelves("--template", "alpaca", "--adapter", "lora:r=4")


@pytest.mark.parametrize("form", ["hf", "gguf"])
def test_an_adapter_is_merged_into_a_whole_model(with_lora: Shelf, tmp_path: Path, form: str) -> None:
    """The folder is the policy, adapter on."""
    with_lora.export(tmp_path / "out", "--to", form)
    source = tmp_path / "out" if form == "hf" else next((tmp_path / "out").glob("*.gguf"))
    model, tokens = find_model(str(source), tmp_path).load()
    ids = tokens.encode(TEXT)
    wanted, found = logits_of(with_lora.policy()[0], ids), logits_of(model, ids)
    assert (wanted - found).abs().max() < (1e-5 if form == "hf" else 5e-3) * wanted.abs().max()


def test_peft_loads_an_adapter_alone(with_lora: Shelf, tmp_path: Path, tiny_model_folder: Path) -> None:
    """On the base it gives the policy's logits."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    assert with_lora.export(tmp_path / "out", "--to", "peft").code == 0
    base = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    policy, tokens = with_lora.policy()
    ids = tokens.encode(TEXT)
    model = PeftModel.from_pretrained(base, str(tmp_path / "out"))
    with torch.no_grad():
        found = model(torch.tensor([ids])).logits[0]
    wanted = logits_of(policy, ids)
    assert (wanted - found).abs().max() < 1e-5 * wanted.abs().max()


def test_an_adapter_of_a_bench_without_is_one_line(shelf: Shelf, tmp_path: Path) -> None:
    refused(shelf.export(tmp_path / "out", "--to", "peft"), tmp_path, "has no adapter", "--to hf")


# From the cache, or again


def test_a_lost_checkpoint_is_trained_again(shelf: Shelf, tmp_path: Path) -> None:
    """Which is said first; it comes to the same weights, and the card says how it was."""
    spoilt = shelf.copied(tmp_path / "shelf")
    shutil.rmtree(spoilt.root / "cache" / "nodes")
    ended = spoilt.export(tmp_path / "out")
    assert ended.code == 0
    lines = ended.err.splitlines()
    said = next(n for n, line in enumerate(lines) if f"no longer has the checkpoint of {DPO}@0" in line)
    assert said < next(n for n, line in enumerate(lines) if line.startswith("training"))
    assert "its log is the run's, to the last digit" in (tmp_path / "out" / "README.md").read_text()
    shelf.export(tmp_path / "kept")
    assert_same_weights(tmp_path / "out", tmp_path / "kept")


def test_a_damaged_checkpoint_is_trained_again(shelf: Shelf, tmp_path: Path) -> None:
    spoilt = shelf.copied(tmp_path / "shelf")
    spoilt.checkpoint().write_bytes(b"no weights")
    assert spoilt.export(tmp_path / "out").code == 0
    shelf.export(tmp_path / "kept")
    assert_same_weights(tmp_path / "out", tmp_path / "kept")


def test_training_that_went_another_way_is_said(shelf: Shelf, tmp_path: Path) -> None:
    """On the terminal and on the card: the scores are another checkpoint's."""
    spoilt = shelf.copied(tmp_path / "shelf")
    shutil.rmtree(spoilt.root / "cache" / "nodes")
    log = spoilt.run / "trials" / f"{DPO}@0" / "train.jsonl"
    log.write_text(log.read_text().replace('"loss": 0', '"loss": 1', 1))
    ended = spoilt.export(tmp_path / "out")
    assert f"{DPO}@0 went another way this time" in ended.err
    assert "went another way than in the run" in (tmp_path / "out" / "README.md").read_text()


def test_a_damaged_checkpoint_is_compared_by_its_new_log(shelf: Shelf, tmp_path: Path) -> None:
    """Not by the one that lay beside the damaged weights, which is the run's in any case."""
    spoilt = shelf.copied(tmp_path / "shelf")
    spoilt.checkpoint().write_bytes(b"no weights")
    for log in (spoilt.run / "trials" / f"{DPO}@0" / "train.jsonl", spoilt.checkpoint().parent / "train.jsonl"):
        first, mark, rest = log.read_text().rpartition('"loss": 0')
        log.write_text(f'{first}"loss": 1{rest}')
        assert mark
    ended = spoilt.export(tmp_path / "out")
    assert f"{DPO}@0 went another way this time" in ended.err


def test_a_kept_checkpoint_needs_no_data(shelf: Shelf, tmp_path: Path) -> None:
    """Nor the code that trained it: the run's records say where it lies."""
    data = Path(read_bench(shelf.run / "bench.toml").asked.data)
    data.rename(tmp_path / "away")
    try:
        ended = shelf.export(tmp_path / "out")
    finally:
        (tmp_path / "away").rename(data)
    assert (ended.code, "trained again" in ended.err) == (0, False)


def assert_same_weights(a: Path, b: Path) -> None:
    from safetensors.torch import load_file

    one, other = (load_file(folder / "model.safetensors") for folder in (a, b))
    assert all(torch.equal(one[name], other[name]) for name in one.keys() | other.keys())


# What is refused


def refused(ended: Finished, tmp_path: Path, *words: str) -> None:
    """One line, exit 2, and nothing half-written."""
    assert (ended.code, ended.out) == (2, "")
    assert all(word in ended.err.splitlines()[-1] for word in words), ended.err
    assert "Traceback" not in ended.err
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".exporting-*"))


@pytest.mark.parametrize(
    ("words", "trial", "said"),
    [
        ((), "dpo_learning_rate=0.1", f"did you mean '{DPO}'"),
        ((), f"{DPO}@1", f"did you mean '{DPO}'"),
        (("--to", "hff"), DPO, "did you mean 'hf'"),
        (("--to", "onnx"), DPO, "it is one of hf, gguf, peft"),
        (("--dtype", "float8"), DPO, "did you mean 'float"),
        (("--to", "gguf", "--dtype", "bfloat16"), DPO, "--dtype bfloat16 is for --to hf"),
    ],
)
def test_what_cannot_be_exported_is_one_line(
    shelf: Shelf, tmp_path: Path, words: tuple[str, ...], trial: str, said: str
) -> None:
    ended = shelf.export(tmp_path / "out", *words, trial=trial)
    refused(ended, tmp_path, said)
    assert ended.err.count("\n") == 1


def test_a_folder_that_is_no_run_is_one_line(shelf: Shelf, tmp_path: Path) -> None:
    ended = harness("export", tmp_path, DPO, tmp_path / "out", cache=tmp_path / "cache")
    refused(ended, tmp_path, "holds no run")


def test_a_target_with_files_in_it_is_left_alone(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("...")
    refused(shelf.export(tmp_path / "mine"), tmp_path, "holds files already")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_an_empty_folder_is_filled(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert shelf.export(tmp_path / "out").code == 0
    assert (tmp_path / "out" / "config.json").exists()


def test_a_place_that_cannot_be_written_is_one_line(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    refused(shelf.export(tmp_path / "file"), tmp_path, "is a file")
    refused(shelf.export(tmp_path / "link"), tmp_path, "is a link")
    refused(shelf.export(tmp_path / "file" / "below"), tmp_path, "cannot be made", "name another folder")
    refused(shelf.export(Path("/proc/nowhere/out")), tmp_path, "cannot be made", "name another folder")


def test_a_model_that_changed_is_one_line(shelf: Shelf, tmp_path: Path) -> None:
    """Its weights would be put on another base, or its tokens be others."""
    spoilt = shelf.copied(tmp_path / "shelf")
    model = tmp_path / "model"
    shutil.copytree(shelf.model, model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.1}))
    bench = spoilt.run / "bench.toml"
    bench.write_text(bench.read_text().replace(str(shelf.model), str(model)))
    refused(spoilt.export(tmp_path / "out"), tmp_path, "is not what this bench was made with")


@pytest.mark.parametrize("content", [None, "asked = 3", "[asked]\n"])
def test_a_bench_file_that_is_none_is_one_line(shelf: Shelf, tmp_path: Path, content: str | None) -> None:
    spoilt = shelf.copied(tmp_path / "shelf")
    (spoilt.run / "bench.toml").unlink()
    if content is not None:
        (spoilt.run / "bench.toml").write_text(content)
    refused(spoilt.export(tmp_path / "out"), tmp_path, "bench.toml")


def fail(error: BaseException) -> Callable[..., Any]:
    def failing(*words: object) -> str:
        raise error

    return failing


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_export_that_is_cut_off_leaves_nothing(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """With everything but the card written, the disk is full, or somebody loses patience."""
    monkeypatch.setattr(exporting, "model_card", fail(error))
    ended = shelf.export(tmp_path / "out")
    assert ended.code == (130 if isinstance(error, KeyboardInterrupt) else 2)
    assert not list(tmp_path.iterdir())


def test_an_anchor_that_no_recipe_begins_with_is_found_all_the_same(
    tmp_path: Path, tiny_model_folder: Path, shelf: Shelf
) -> None:
    """With `sft` alone no record has its digest, and the plan gives it."""
    words = ("--recipes", "sft", "--budget", "48pairs", "--judge", "rule:gold", "--eval-prompts", 6)
    data = read_bench(shelf.run / "bench.toml").asked.data
    given = ("--model", tiny_model_folder, "--data", data, "--max-new-tokens", 8, "--dtype", "float32")
    assert harness("run", *words, *given, "--out", tmp_path / "run", cache=tmp_path / "cache").code == 0
    ended = harness("export", tmp_path / "run", "anchor", tmp_path / "out", cache=tmp_path / "cache")
    assert (ended.code, "trained again" in ended.err) == (0, False)
    prompts = read_jsonl(tmp_path / "run" / "prompts.jsonl", HeldOutPrompt)
    answers = written_by_transformers(tmp_path / "out", [p.question for p in prompts], 8)
    assert answers == [recorded(tmp_path / "run" / "anchor")[p.prompt_id] for p in prompts]


def test_what_comes_out_can_be_read_by_other_users(tmp_path: Path) -> None:
    """safetensors writes files that only their owner can read; a server under another name has to."""
    with exporting._whole(tmp_path / "out") as making:
        (making / "model.safetensors").write_bytes(b"")
        (making / "model.safetensors").chmod(0o600)
    assert (tmp_path / "out" / "model.safetensors").stat().st_mode & 0o777 == 0o644
