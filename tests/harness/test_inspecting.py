"""The `data` command: what it shows, for people and for programs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.errors import HarnessError
from harness.inspecting import DataCommand

ROWS = [{"prompt": f"Question {n}?", "chosen": f"Yes, {n}.", "rejected": f"No {n}."} for n in range(100)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFBENCH_CACHE", str(tmp_path / "cache"))


def write(folder: Path, rows: list[dict[str, Any]]) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


def shown(command: DataCommand) -> tuple[int, str]:
    console = Console(record=True, width=200, quiet=True)
    with console.capture() as capture:
        console.quiet = False
        code = command.carry_out(console, Console(quiet=True))
    return code, capture.get()


def test_what_was_understood_is_shown(tmp_path: Path) -> None:
    """Format, rows, splits, lengths, bias, what is left out, examples."""
    code, text = shown(DataCommand(source=write(tmp_path, [*ROWS, ROWS[0]])))
    assert code == 0
    for words in (
        "read as TRL text",
        "101 rows, 100 pairs, 100 different prompts",
        "no prompt is in two splits",
        "the chosen response is longer in 100.0%",
        "left out: 1 of 101 rows repeat an earlier row word for word: rows 101.",
        "row 51\n  prompt   Question 50?",
    ):
        assert words in text


def test_a_program_reads_the_same(tmp_path: Path) -> None:
    """--json, on standard output alone."""
    code, text = shown(DataCommand(source=write(tmp_path, ROWS), as_json=True))
    found = json.loads(text)
    assert (code, found["format"], found["pairs"], found["longer"]["value"]) == (0, "TRL text", 100, 1.0)


def test_data_that_a_bench_would_refuse_is_shown_and_exits_1(tmp_path: Path) -> None:
    """Ten empty responses of a hundred: what is left is shown, and the line that a bench would end with."""
    rows = [{**row, "chosen": ""} if n % 10 == 0 else row for n, row in enumerate(ROWS)]
    code, text = shown(DataCommand(source=write(tmp_path, rows)))
    assert code == 1
    assert "A bench would refuse this data: " in text
    assert "(so have 10 of 100 rows, more than 1%)" in text


def test_hostile_texts_are_shown_by_number(tmp_path: Path) -> None:
    """Nothing that a row, a column or a file's name holds moves the terminal's cursor or turns its text round."""
    hostile = "\x1b[2J\x00\u202eevil\r[bold]not markup[/bold]"
    rows = [{**row, "prompt": f"{hostile}{n}", hostile: 1} for n, row in enumerate(ROWS)]
    _, text = shown(DataCommand(source=write(tmp_path, rows)))
    assert not set("\x1b\x00\u202e\r") & set(text)
    assert "\\u{202e}" in text
    assert "[bold]not markup[/bold]" in text


def test_lengths_are_told_in_a_models_tokens(tmp_path: Path, tiny_model_folder: Path) -> None:
    """Single bytes here, and the end of a response."""
    command = DataCommand(source=write(tmp_path, ROWS), model=str(tiny_model_folder), as_json=True)
    lengths = json.loads(shown(command)[1])["lengths"]
    longest = {(s["what"], s["unit"]): s["longest"] for s in lengths}
    assert longest["chosen", "tokens"] == longest["chosen", "characters"] + 1 == 9


def test_messages_for_a_model_without_a_chat_template_are_one_line(tiny_model_folder: Path, tmp_path: Path) -> None:
    """What is amiss stands in it once, and what to do once."""
    for file in tiny_model_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}')
    rows = [{name: [{"role": "assistant", "content": name + str(n)}] for name in ("chosen", "rejected")} for n in "123"]
    asked = [row | {"prompt": [{"role": "user", "content": f"Say {n}"}]} for n, row in enumerate(rows)]
    line = (
        r"^messages \(the template 'chat'\) need a model with a chat template, and this one has none: use --template "
        r"alpaca or --template plain$"
    )
    with pytest.raises(HarnessError, match=line):
        shown(DataCommand(source=write(tmp_path, asked), model=str(tmp_path)))


def test_a_mistyped_template_is_told_first(tmp_path: Path) -> None:
    """Before a long file is read."""
    with pytest.raises(HarnessError, match="did you mean 'alpaca'"):
        shown(DataCommand(source="missing", template="alpacca"))


def test_the_command_answers_without_torch() -> None:
    """From the command line: exit 0, and nothing heavy was imported."""
    code = (
        "import sys; sys.argv = ['harness', 'data', 'courtesy']\n"
        "import harness.cli\n"
        "try: harness.cli.main()\n"
        "finally: print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "2,104 pairs know their true answer" in done.stdout
    assert done.stderr.endswith("False\n")


def test_a_typo_exits_2_with_one_line() -> None:
    """As every command does."""
    done = subprocess.run(
        [sys.executable, "-m", "harness", "data", "curtesy"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "did you mean 'courtesy'?" in done.stderr.splitlines()[-1]
