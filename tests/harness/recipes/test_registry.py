"""A name on the command line becomes a plan, or a line that says what was probably meant."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import typing
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from typing import Literal

import pytest

from harness.errors import HarnessError
from harness.recipes import registry
from harness.recipes.recipe import Recipe, Stage
from harness.recipes.registry import KNOBS, SUMMARIES, VARIANTS, Choice, choose, families

CORE = (
    "sft",
    "dpo-beta0.05",
    "dpo-beta0.1",
    "dpo-beta0.3",
    "dpo-beta0.5",
    "dpo-soft-reference",
    "dpo-hard-reference",
)


def names(*asked: str) -> tuple[str, ...]:
    return tuple(choice.name for choice in choose(asked))


def refusal(*asked: str) -> str:
    with pytest.raises(HarnessError) as caught:
        choose(asked)
    return str(caught.value)


def last_stage(asked: str) -> Stage:
    (choice,) = choose([asked])
    return choice.stages[-1]


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (("core",), CORE),
        (("dpo-beta0.1",), ("dpo-beta0.1",)),
        (("dpo-beta*",), CORE[1:5]),
        (("*reference",), CORE[5:]),
        (("dpo-beta0.[13]",), ("dpo-beta0.1", "dpo-beta0.3")),
        (("sft,dpo-beta0.1",), ("sft", "dpo-beta0.1")),
        (("dpo-beta0.1", "sft"), ("dpo-beta0.1", "sft")),
        (("sft, dpo-beta0.1 ,",), ("sft", "dpo-beta0.1")),
        (("dpo-beta0.1", "core"), ("dpo-beta0.1", "sft", *CORE[1:2], *CORE[3:])),
        (("sft", "sft", "s*"), ("sft",)),
        (("dpo",), ("dpo-beta0.1",)),
        (("dpo:beta=0.1",), ("dpo-beta0.1",)),
        (("dpo:beta=0.10",), ("dpo-beta0.1",)),
        (("dpo:reference=soft",), ("dpo-soft-reference",)),
        (("dpo-beta0.5:beta=0.1",), ("dpo-beta0.1",)),
        (("dpo:beta=0.2",), ("dpo_beta=0.2",)),
        (("dpo:reference=soft:beta=0.2",), ("dpo_beta=0.2_reference=soft",)),
        (("dpo:beta=0.2:reference=soft",), ("dpo_beta=0.2_reference=soft",)),
        (("sft:learning_rate=3e-4",), ("sft_learning_rate=0.0003",)),
    ],
)
def test_names_groups_globs_and_knobs_are_understood(asked: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    """In the order asked, each once, and by the known name where the knobs are its knobs."""
    assert names(*asked) == wanted


def test_all_begins_with_the_core() -> None:
    """Strangers' recipes come after the built-in ones."""
    assert names("all")[: len(CORE)] == CORE


def test_the_core_has_what_the_project_exists_for() -> None:
    """Their betas, references and stages, as the design gives them."""
    made = {c.name: (c.stages[-1].objective.beta, c.stages[-1].reference.kind, len(c.stages)) for c in choose(["core"])}
    assert made == {
        "sft": (None, "none", 1),
        "dpo-beta0.05": (0.05, "frozen", 2),
        "dpo-beta0.1": (0.1, "frozen", 2),
        "dpo-beta0.3": (0.3, "frozen", 2),
        "dpo-beta0.5": (0.5, "frozen", 2),
        "dpo-soft-reference": (0.1, "soft", 2),
        "dpo-hard-reference": (0.1, "hard", 2),
    }


def test_all_preference_recipes_start_from_one_anchor() -> None:
    """The same first stage, on two fifths of the budget."""
    first = {id(c.stages[0]) for c in choose(["dpo*"])}
    assert len(first) == 1
    assert {c.stages[0].share for c in choose(["dpo*"])} == {0.4}


@pytest.mark.parametrize("choice", choose(["all"]), ids=lambda c: c.name)
def test_a_recipes_stages_spend_the_whole_budget(choice: Choice) -> None:
    """Their shares add up to one."""
    assert sum(stage.share for stage in choice.stages) == pytest.approx(1.0)


@pytest.mark.parametrize("choice", choose(["all"]), ids=lambda c: c.name)
def test_a_choice_can_be_asked_for_again(choice: Choice) -> None:
    """Its spec gives the same name and the same numbers."""
    (again,) = choose([choice.spec])
    assert (again.name, again.spec, again.summary) == (choice.name, choice.spec, choice.summary)
    assert [s.objective.beta for s in again.stages] == [s.objective.beta for s in choice.stages]


def test_knobs_reach_the_stage() -> None:
    """Every one of DPO's."""
    stage = last_stage("dpo:beta=0.2:reference=hard:period=0.5:half_life=0.3:learning_rate=1e-3")
    assert stage.objective.beta == 0.2
    assert (stage.reference.kind, stage.reference.period, stage.reference.half_life) == ("hard", 0.5, 0.3)
    assert stage.learning_rate == 1e-3


def test_knobs_on_a_variant_keep_its_others() -> None:
    """A soft reference with another beta is still soft."""
    stage = last_stage("dpo-soft-reference:beta=0.3")
    assert (stage.reference.kind, stage.objective.beta) == ("soft", 0.3)
    assert names("dpo-soft-reference:beta=0.3") == ("dpo-soft-reference_beta=0.3",)


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ("dpoo", "no recipe named 'dpoo': did you mean 'dpo'? See: python -m harness recipes"),
        ("dpo-beta0.2", "no recipe named 'dpo-beta0.2': did you mean 'dpo-beta0.5'? See: python -m harness recipes"),
        ("dpo-soft-refrence", "did you mean 'dpo-soft-reference'?"),
        ("cor", "did you mean 'core'?"),
        ("Core", "did you mean 'core'?"),
        ("zzz", "no recipe named 'zzz'. See: python -m harness recipes"),
        ("xyz*", "no recipe matches 'xyz*'. See: python -m harness recipes"),
        ("", "no recipe was named"),
        (" , ", "no recipe was named"),
        ("dpo:betta=0.2", "recipe 'dpo' has no knob 'betta': did you mean 'beta'?"),
        ("dpo:zzz=1", "its knobs are beta, reference, half_life, period, learning_rate"),
        ("sft:beta=0.1", "recipe 'sft' has no knob 'beta'"),
        ("dpo:beta", "knob 'beta' of dpo has no value: write it as dpo:beta=VALUE"),
        ("dpo:beta=", "knob 'beta=' of dpo has no value"),
        ("dpo:", "knob '' of dpo has no value"),
        ("dpo:beta=big", "knob beta=big of dpo: it is no float"),
        ("dpo:beta=0", "recipe 'dpo' cannot be set so: beta=0.0 must be positive"),
        ("dpo:beta=-0.1", "beta=-0.1 must be positive"),
        ("dpo:beta=nan", "it must be a finite number"),
        ("dpo:beta=inf", "it must be a finite number"),
        ("dpo:reference=sof", "knob reference=sof of dpo: it is one of frozen, soft, hard"),
        ("dpo-beta*:beta=1", "no recipe matches"),
    ],
)
def test_what_cannot_be_understood_is_one_line(asked: str, line: str) -> None:
    """With what was probably meant, or what there is."""
    said = refusal(asked)
    assert line in said
    assert "\n" not in said


def test_no_recipes_at_all_are_refused() -> None:
    """An empty list is no comparison."""
    assert "no recipe was named" in refusal()


@dataclass(frozen=True, kw_only=True)
class StrangersKnobs:
    """Of each kind that a stranger might have."""

    weight: float = 1.0
    rounds: int = 2
    mode: Literal["mild", "wild"] = "mild"
    tag: str = ""


def strangers_plan(knobs: StrangersKnobs) -> tuple[Stage, ...]:
    """SFT by another name."""
    return (replace(last_stage("sft"), learning_rate=knobs.weight * knobs.rounds),)


stranger = Recipe(name="stranger", knobs=StrangersKnobs, plan=strangers_plan)
no_recipe = "I am a string"


def install(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Put an entry point beside the built-in ones."""
    built_in = list(families().values())
    point = EntryPoint(name=name, value=value, group=registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda *, group: [*built_in, point])


def test_a_strangers_recipe_is_one_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, in `all`, by glob, and with knobs of every kind."""
    install(monkeypatch, "stranger", f"{__name__}:stranger")
    assert names("stranger") == ("stranger",)
    assert names("all") == (*CORE, "stranger")
    assert names("str*") == ("stranger",)
    assert "stranger" not in names("core")
    assert names("stranger:rounds=3:tag=x") == ("stranger_rounds=3_tag=x",)
    assert last_stage("stranger:rounds=3:weight=0.5:mode=wild").learning_rate == 1.5


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ("strangr", "did you mean 'stranger'?"),
        ("stranger:rounds=2.5", "knob rounds=2.5 of stranger: it is no int"),
        ("stranger:mode=odd", "it is one of mild, wild"),
    ],
)
def test_mistakes_in_a_strangers_name_or_knobs_are_one_line(
    asked: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with the built-in ones."""
    install(monkeypatch, "stranger", f"{__name__}:stranger")
    assert line in refusal(asked)


def test_a_strangers_summary_says_where_it_is_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no table for it."""
    install(monkeypatch, "stranger", f"{__name__}:stranger")
    assert choose(["stranger"])[0].summary == f"from {__name__}:stranger"


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("no_such_module:recipe", "recipe 'odd' from no_such_module:recipe cannot be imported: No module named"),
        (f"{__name__}:missing", "cannot be imported: "),
        (f"{__name__}:no_recipe", "is no harness.recipes.recipe.Recipe: 'I am a string'"),
    ],
)
def test_a_stranger_that_does_not_load_is_one_line(value: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the recipe and where it came from."""
    install(monkeypatch, "odd", value)
    said = refusal("odd")
    assert line in said
    assert "\n" not in said


def test_a_broken_stranger_stops_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not ask for it does not import it."""
    install(monkeypatch, "odd", "no_such_module:recipe")
    assert names("core") == CORE


def test_the_table_knows_what_loads() -> None:
    """Every variant's recipe is installed under that name, and has a summary; each summary has a recipe."""
    assert {variant.recipe for variant in VARIANTS.values()} == set(SUMMARIES) <= set(families())
    assert all(families()[name].load().name == name for name in SUMMARIES)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variants_summary_says_what_it_is(name: str) -> None:
    """The beta and the reference that it names are those of its stages."""
    stage, summary = last_stage(name), VARIANTS[name].summary
    if stage.objective.name != "dpo":
        assert summary.startswith("SFT")
        return
    assert f"beta {stage.objective.beta:g}" in summary
    words = {"frozen": "frozen", "soft": "follows", "hard": "jumps"}
    assert [kind for kind, word in words.items() if word in summary] == [stage.reference.kind]


def test_choosing_recipes_imports_no_torch_until_one_is_loaded() -> None:
    """The table and the installed names are enough for a listing."""
    code = (
        "import sys; from harness.recipes.registry import VARIANTS, SUMMARIES, families; "
        "assert VARIANTS and SUMMARIES and families(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_value_spelt_otherwise_is_the_same_recipe() -> None:
    """Else it would be compared with itself."""
    assert [choice.name for choice in choose(["dpo:beta=0.2", "dpo:beta=0.20,dpo:beta=2e-1"])] == ["dpo_beta=0.2"]


@pytest.mark.parametrize("name", KNOBS)
def test_the_knobs_that_are_listed_are_those_there_are(name: str) -> None:
    """With their defaults, and every choice where there is one."""
    knobs = families()[name].load().knobs
    hints = typing.get_type_hints(knobs)
    shown = {
        f.name: "|".join(typing.get_args(hints[f.name])) if typing.get_args(hints[f.name]) else f"{f.default}"
        for f in dataclasses.fields(knobs)
    }
    assert KNOBS[name] == " ".join(f"{knob}={value}" for knob, value in shown.items())


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("all:beta=1", "'all' is a group, and knobs are a recipe's"),
        ("core:beta=1", "'core' is a group"),
        ("dpo:beta=0.1:beta=0.2", "sets a knob twice"),
    ],
)
def test_a_spec_that_says_two_things_is_refused(spec: str, words: str) -> None:
    """Neither is guessed."""
    with pytest.raises(HarnessError, match=words):
        choose([spec])


def test_spaces_round_a_value_are_no_part_of_it() -> None:
    """Nor of the trial's name."""
    assert [choice.name for choice in choose(["dpo:beta= 0.2"])] == ["dpo_beta=0.2"]


def test_a_long_value_does_not_make_a_longer_folder_name() -> None:
    """File systems have a limit."""
    value = "0." + "1" * 300
    assert len(choose([f"dpo:beta={value}:half_life={value}:period={value}:learning_rate={value}"])[0].name) < 120
