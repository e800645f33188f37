"""`judge` qualifies judges without a bench: the same card as a bench makes, an exit code, a file that is whole."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from harness import judging
from harness.phases import Phases
from harness.records import JudgeCard
from reports import build
from tests.harness.door import Finished, harness, write_sums

EXIT_QUALIFIED, EXIT_UNQUALIFIED, EXIT_MENDABLE = 0, 1, 2


class Door:
    """`harness judge` with the tiny model and a file of sums."""

    def __init__(self, root: Path, model: Path) -> None:
        self.root, self.model, self.out = root, model, root / "cards" / "card.json"
        self.data = write_sums(root / "sums.jsonl", 200)

    def judge(self, *judges: str, **flags: object) -> Finished:
        given = {"model": self.model, "data": self.data, "out": self.out, **flags}
        words = [word for judge in judges for word in ("--judge", judge)]
        return harness("judge", *words, *(w for k, v in given.items() for w in (f"--{k}", v)), cache=self.root / "c")

    @property
    def cards(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(self.out.read_text())["judges"]
        return found


@pytest.fixture
def door(tmp_path: Path, tiny_model_folder: Path) -> Door:
    return Door(tmp_path, tiny_model_folder)


def test_a_qualified_judge_ends_with_zero(door: Door) -> None:
    """The truth is able and robust."""
    ended = door.judge("rule:gold")
    assert (ended.code, "Qualified: it is able and robust" in ended.out) == (EXIT_QUALIFIED, True)


def test_one_judge_of_several_that_is_not_qualified_ends_with_one(door: Door) -> None:
    """Every judge has its card all the same, in the order asked for."""
    ended = door.judge("rule:gold", "rule:length")
    assert ended.code == EXIT_UNQUALIFIED
    assert [(card["name"], card["qualified"]) for card in door.cards] == [("rule:gold", True), ("rule:length", False)]


def test_a_probe_is_fitted_first(door: Door) -> None:
    """On the judge split, which the pairs that it is measured on are not of; nothing is trained."""
    ended = door.judge(f"probe:{door.model}", pairs=20)
    assert "fitted on" in ended.out
    reading, understood, *phases = ended.err.splitlines()
    assert (reading, " is read as TRL text" in understood) == ("reading the model and the data", True)
    assert [line.split()[0] for line in phases] == ["fitting", *["qualifying"] * 3]
    assert not (door.root / "c" / "nodes").exists()


def test_a_bench_measures_the_same_card(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone or in a bench, a judge is measured on the same pairs. (Drawing would take most of its time.)"""
    monkeypatch.setattr(build, "svg", lambda figure: b"<svg></svg>")
    monkeypatch.setattr(build, "png", lambda figure: b"")
    probe, run = f"probe:{door.model}", door.root / "run"
    door.judge(probe, pairs=8)
    bench = {"model": door.model, "data": door.data, "eval-prompts": 8, "max-new-tokens": 2, "budget": "16pairs"}
    flags = [word for name, value in bench.items() for word in (f"--{name}", value)]
    ended = harness("run", "--judge", probe, "--recipes", "sft", "--out", run, *flags, cache=door.root / "c")
    assert ended.code == 0
    (path,) = (run / "judges").glob("*.json")
    apart = {"verdicts_per_second", "qualified"}
    mine = {name: value for name, value in door.cards[0].items() if name not in apart}
    assert mine == {name: value for name, value in json.loads(path.read_text()).items() if name not in apart}


def test_the_file_has_all_of_the_card(door: Door) -> None:
    """And says what it was measured on."""
    door.judge("rule:gold")
    found = json.loads(door.out.read_text())
    assert set(found["judges"][0]) == {*JudgeCard.__dataclass_fields__, "qualified"}
    assert (found["schema"], set(found["data"])) == (1, {"name", "digest", "pairs"})


def test_without_out_nothing_is_written(tmp_path: Path, tiny_model_folder: Path) -> None:
    data = write_sums(tmp_path / "sums.jsonl", 200)
    flags = ("--model", tiny_model_folder, "--data", data)
    ended = harness("judge", "--judge", "rule:gold", *flags, cache=tmp_path / "cache")
    assert (ended.code, {path.name for path in tmp_path.iterdir()} - {"cache"}) == (0, {"sums.jsonl"})


def test_attacks_are_measured_where_asked_for(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is in the file, on as many prompts as a slow judge bears."""
    words = ("--judge", "rule:gold", "--model", door.model, "--data", door.data, "--out", door.out, "--attacks")
    monkeypatch.setattr(judging, "ATTACKED_PAIRS", 5)
    ended = harness("judge", *words, "--pairs", 20, cache=door.root / "c")
    assert (ended.code, "How often hostile responses beat" in ended.out) == (EXIT_QUALIFIED, True)
    attacks = door.cards[0]["attacks"]
    assert isinstance(attacks, dict)
    assert len(attacks) >= 30
    assert {score["n"] for score in attacks.values()} == {5}


@pytest.mark.parametrize(
    ("judges", "flags", "said"),
    [
        (("rule:god",), {}, "no judge named 'rule:god': did you mean 'rule:gold'?"),
        (("rule:length",), {"data": "no-such.jsonl"}, "no-such.jsonl"),
        (("rule:length",), {"dtype": "int8"}, "int8"),
        (("rule:length",), {"pairs": 1}, "--pairs"),
    ],
)
def test_what_the_user_can_mend_is_one_line(
    door: Door, judges: tuple[str, ...], flags: dict[str, object], said: str
) -> None:
    """Exit code 2, no traceback, no file."""
    ended = door.judge(*judges, **flags)
    assert (ended.code, door.out.exists(), ended.out) == (EXIT_MENDABLE, False, "")
    assert said in ended.err
    assert "Traceback" not in ended.err


def test_a_folder_as_out_is_refused_before_anything_is_measured(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work of minutes is not lost at its end."""
    monkeypatch.setattr(judging, "lay_ground", None)
    ended = door.judge("rule:gold", out=door.root)
    assert (ended.code, ended.err) == (EXIT_MENDABLE, f"--out {door.root} is a folder: name a file\n")


def test_gold_asked_of_data_that_has_none_is_one_line(door: Door) -> None:
    rows = [json.loads(line) for line in door.data.read_text().splitlines()]
    plain = door.root / "plain.jsonl"
    plain.write_text("".join(json.dumps({k: v for k, v in row.items() if k != "gold"}) + "\n" for row in rows))
    ended = door.judge("rule:gold", data=plain)
    assert (ended.code, "needs data that knows the truth" in ended.err) == (EXIT_MENDABLE, True)


# What is said while it goes on.


def test_piped_phases_are_lines() -> None:
    """Each once, and nothing that moves."""
    out = io.StringIO()
    with Phases(Console(file=out, width=40)) as phases:
        phases.begin("fitting judge [bold]x[/]")
        phases.say("a warning\nof two lines")
    assert out.getvalue() == "fitting judge [bold]x[/]\na warning of two lines\n"


def test_on_a_terminal_a_phase_replaces_the_one_before() -> None:
    """Only the running one is in sight, with its clock, and at the end none is."""
    out = io.StringIO()
    console = Console(file=out, width=60, force_terminal=True, legacy_windows=False, color_system=None)
    with Phases(console) as phases:
        phases.begin("fitting")
        phases.begin("qualifying")
        phases._progress.refresh()
        frames = out.getvalue()
    shown = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", frames).split("\r")[-1]
    assert ("qualifying" in shown, "0:00:0" in shown, "fitting" in shown) == (True, True, False)
