"""bench.toml says all that was asked, survives a round trip, and is refused in one line where it is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.data import sources
from harness.errors import HarnessError
from harness.settings import (
    NAMES,
    Asked,
    BenchFile,
    Resolved,
    absolute,
    absolute_judge,
    asked,
    default_folder,
    read_bench,
    refuse_another,
)
from models.hub import SHORT_NAMES
from models.sources import EMBEDDED

RESOLVED = Resolved(
    recipes=("sft",),
    model_digest="a" * 64,
    data_digest="b" * 64,
    judges=("a reward head on a model (sha256 abc…)",),
    budget_flops=1.2e13,
    flops_per_second=2.5e11,
    flops_per_byte=8.03,
    dtype="float32",
    threads=2,
    micro_batch_tokens=2048,
)
# Every setting another than its default, and characters that TOML must quote.
OTHER = Asked(
    model='mo"del\\s/é',
    data="rows.jsonl",
    template="plain",
    columns=("chosen=accepted", "rejected=declined"),
    adapter="lora:r=16",
    recipes=("sft", "dpo:beta=0.2"),
    budget="12TFLOP",
    seeds=3,
    first_seed=4,
    precision="3pp",
    judges=("rule:gold", "probe"),
    eval_prompts=7,
    max_new_tokens=9,
    batch_pairs=4,
    dtype="bfloat16",
    memory="6GB",
)
QUESTION = [name for name in Asked.model_fields if name != "memory"]  # what numbers hang on


def refusal(path: Path) -> str:
    with pytest.raises(HarnessError) as caught:
        read_bench(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("bench", [BenchFile(asked=Asked()), BenchFile(asked=OTHER, resolved=RESOLVED)])
def test_a_bench_survives_its_file(tmp_path: Path, bench: BenchFile) -> None:
    """What is read is what was written, missing values missing."""
    bench.write(tmp_path / "bench.toml")
    assert read_bench(tmp_path / "bench.toml") == bench


def test_a_large_budget_keeps_every_digit(tmp_path: Path) -> None:
    """FLOPs are read back as they were, so plans are the same."""
    bench = BenchFile(asked=Asked(), resolved=RESOLVED.model_copy(update={"budget_flops": 12345678901234.0}))
    bench.write(tmp_path / "bench.toml")
    assert read_bench(tmp_path / "bench.toml").digest == bench.digest


def test_broken_toml_is_one_line_with_its_place(tmp_path: Path) -> None:
    """The file and the line."""
    path = tmp_path / "bench.toml"
    path.write_text("[asked]\nbudget = 60s\n")
    assert refusal(path).startswith(f"{path} cannot be read (")
    assert "line 2" in refusal(path)


def test_an_unknown_setting_is_named(tmp_path: Path) -> None:
    """A misspelt key is not passed over."""
    path = tmp_path / "bench.toml"
    path.write_text('[asked]\nbugdet = "60s"\n')
    assert "asked.bugdet" in refusal(path)


@pytest.mark.parametrize(
    ("line", "name"), [("seeds = 0", "seeds"), ('eval_prompts = "many"', "eval_prompts"), ("data = 3", "data")]
)
def test_a_wrong_value_is_named_with_its_setting(tmp_path: Path, line: str, name: str) -> None:
    """File, setting and value."""
    path = tmp_path / "bench.toml"
    path.write_text(f"[asked]\n{line}\n")
    value = line.split(" = ")[1].strip('"')
    assert refusal(path).startswith(f"{path}: asked.{name} ")
    assert value in refusal(path)


def test_a_missing_bench_says_what_to_give(tmp_path: Path) -> None:
    """The path, and what --config takes."""
    assert "--config takes the bench.toml of a run" in refusal(tmp_path / "none.toml")


def test_a_folder_is_no_bench(tmp_path: Path) -> None:
    """Giving the run's folder in place of its bench.toml is an easy mistake."""
    assert "--config takes the bench.toml of a run" in refusal(tmp_path)


def test_a_wrong_flag_is_said_to_be_on_the_command_line() -> None:
    """No file is blamed."""
    with pytest.raises(HarnessError, match="the command line: seeds 0: "):
        asked({"seeds": 0})


def test_the_same_question_has_the_same_default_folder() -> None:
    """So that the same command again continues the run."""
    assert default_folder(Asked(**OTHER.model_dump())) == default_folder(OTHER)


def test_an_old_command_finds_its_folder() -> None:
    """Named before columns and adapters could be asked for."""
    assert default_folder(Asked()).name == "courtesy-smollm2-135m-60s-ee2e8e"


@pytest.mark.parametrize("name", QUESTION)
def test_another_question_has_another_default_folder(name: str) -> None:
    """Whatever differs, the folder differs."""
    other = Asked().model_copy(update={name: getattr(OTHER, name)})
    assert default_folder(other) != default_folder(Asked())


def test_the_default_folder_is_one_level_under_runs() -> None:
    """Paths in names do not lead elsewhere."""
    folder = default_folder(Asked(data="../../a b/rows.jsonl", model="/models/tiny/"))
    assert folder.parts[0] == "runs"
    assert len(folder.parts) == 2
    assert folder.name.startswith("rows-tiny-60s-")


def test_a_folder_that_is_not_there_is_new(tmp_path: Path) -> None:
    """There is nothing to continue."""
    assert refuse_another(tmp_path / "run", BenchFile(asked=Asked())) is None


def test_the_folder_of_the_same_bench_gives_what_it_resolved(tmp_path: Path) -> None:
    """So that a continued run keeps its FLOPs and does not calibrate again."""
    held = BenchFile(asked=Asked(), resolved=RESOLVED)
    held.write(tmp_path / "bench.toml")
    assert refuse_another(tmp_path, BenchFile(asked=Asked())) == held


def test_a_run_goes_on_with_other_memory(tmp_path: Path) -> None:
    """It changes no number but by rounding: the same folder, the same digest, and nothing is resolved again."""
    held, wanted = BenchFile(asked=Asked(), resolved=RESOLVED), Asked(memory="6GB")
    held.write(tmp_path / "bench.toml")
    assert default_folder(wanted) == default_folder(Asked())
    found = refuse_another(tmp_path, BenchFile(asked=wanted))
    assert found == BenchFile(asked=wanted, resolved=RESOLVED) == held.asking(wanted)
    assert found is not None
    assert found.digest == held.digest


def test_another_question_is_resolved_anew() -> None:
    """What was resolved for one budget says nothing of another."""
    held = BenchFile(asked=Asked(), resolved=RESOLVED)
    assert held.asking(Asked(budget="10s")) == BenchFile(asked=Asked(budget="10s"))


@pytest.mark.parametrize("name", QUESTION)
def test_the_folder_of_another_bench_is_refused_by_what_differs(tmp_path: Path, name: str) -> None:
    """The setting, both values, and the way out."""
    BenchFile(asked=Asked(), resolved=RESOLVED).write(tmp_path / "bench.toml")
    other = Asked().model_copy(update={name: getattr(OTHER, name)})
    with pytest.raises(HarnessError, match=f"holds another bench, with {name} .* choose another folder"):
        refuse_another(tmp_path, BenchFile(asked=other))


def test_a_bench_resolved_otherwise_is_another(tmp_path: Path) -> None:
    """The same question at other FLOPs gives other numbers."""
    BenchFile(asked=Asked(), resolved=RESOLVED).write(tmp_path / "bench.toml")
    other = BenchFile(asked=Asked(), resolved=RESOLVED.model_copy(update={"budget_flops": 1.0}))
    with pytest.raises(HarnessError, match="holds another bench"):
        refuse_another(tmp_path, other)


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    """Nothing of somebody else's is mixed with a run."""
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(HarnessError, match="holds other files"):
        refuse_another(tmp_path, BenchFile(asked=Asked()))


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    """--out takes a folder."""
    (tmp_path / "run").write_text("")
    with pytest.raises(HarnessError, match="choose another folder"):
        refuse_another(tmp_path / "run", BenchFile(asked=Asked()))


def test_a_judge_given_twice_is_asked_once() -> None:
    """Its verdicts would count double, and narrow its interval for nothing."""
    given: dict[str, Any] = {"judges": ("probe", "rule:gold", "probe")}
    assert asked(given).judges == ("probe", "rule:gold")


def test_a_path_is_kept_absolute_and_a_name_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """bench.toml finds its data from any folder; a folder called like a data set hides nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.jsonl").touch()
    (tmp_path / "courtesy").mkdir()
    assert absolute("pairs.jsonl") == str((tmp_path / "pairs.jsonl").resolve())
    assert (absolute("courtesy"), absolute("missing.jsonl")) == ("courtesy", "missing.jsonl")


def test_what_lies_elsewhere_is_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of the Hub and short names, whatever lies here; what transformers is to compute may lie here."""
    monkeypatch.chdir(tmp_path)
    for name in ("hf:org/name", "gpt2", "tiny"):
        (tmp_path / name).mkdir(parents=True)
    assert [absolute(name) for name in ("hf:org/name", "gpt2")] == ["hf:org/name", "gpt2"]
    assert absolute("transformers:tiny") == f"transformers:{(tmp_path / 'tiny').resolve()}"
    assert absolute_judge("probe:transformers:hf:org/name") == "probe:transformers:hf:org/name"


def test_a_judges_model_is_kept_absolute_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a probe; other judges' names are no paths."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    assert absolute_judge("probe:tiny") == f"probe:{(tmp_path / 'tiny').resolve()}"
    assert [absolute_judge(name) for name in ("probe", "ollama:tiny")] == ["probe", "ollama:tiny"]


def test_the_names_that_hide_paths_are_those_there_are() -> None:
    """Kept here so that help need not load torch."""
    assert (*EMBEDDED, *SHORT_NAMES, *sources.NAMES) == NAMES


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("budget_flops", "-1.0"),
        ("budget_flops", "nan"),
        ("budget_pairs", "5"),
        ("flops_per_byte", "0.0"),
        ("threads", "0"),
        ("micro_batch_tokens", "0"),
        ("dtype", "'float16'"),
    ],
)
def test_a_bench_file_edited_to_nonsense_is_refused(tmp_path: Path, name: str, value: str) -> None:
    """Before anything is trained by it."""
    path = tmp_path / "bench.toml"
    BenchFile(asked=Asked(), resolved=RESOLVED).write(path)
    lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{name} =")]
    where = lines.index("[resolved]") + 1
    path.write_text("\n".join([*lines[:where], f"{name} = {value}", *lines[where:]]))
    assert "resolved" in refusal(path)


def test_what_a_run_killed_at_once_left_is_no_other_run(tmp_path: Path) -> None:
    """Half a bench.toml under its temporary name."""
    (tmp_path / ".bench.toml.x1.toml").touch()
    (tmp_path / ".lock").touch()
    assert refuse_another(tmp_path, BenchFile(asked=Asked())) is None
