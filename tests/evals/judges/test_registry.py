"""Every judge is found by its name, a stranger's like ours, and what is broken or mistyped is one line."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points

import pytest

from evals.judges import registry
from evals.judges.memory import Costly
from evals.judges.protocol import Judge, Opinion, Question
from evals.judges.registry import make_judge
from evals.judges.rule import LengthRule
from harness.errors import HarnessError

QUESTION = Question(prompt_id="p", question="5 + 7?", first="It is 12.", second="12")


class Even:
    """A stranger's judge; `said` is what it says of every question."""

    def __init__(self, detail: str | None, said: object = Opinion(p_first=0.5)) -> None:
        self.name, self.description, self.said = "its own name", f"even, of {detail}", said

    def p_first_wins(self, questions: Sequence[Question]) -> list[Opinion]:
        if isinstance(self.said, BaseException):
            raise self.said
        return [self.said for _ in questions]  # type: ignore[misc]  # some say what they may not


class Remembered(Even):
    """One whose answers are worth keeping."""

    def content(self, question: Question) -> str:
        return question.first


def too_few(detail: str | None) -> Judge:
    judge = Even(detail)
    judge.p_first_wins = lambda questions: []  # type: ignore[method-assign]
    return judge


def saying(said: object) -> object:
    return lambda detail: Even(detail, said)


says_two = saying(Opinion(p_first=2.0))
says_nan = saying(Opinion(p_first=float("nan")))
says_a = saying("A")
says_none = saying(Opinion(p_first=None, problem="I cannot tell"))
raises = saying(ValueError("a line\nand another"))
leaves = saying(SystemExit(4))


def no_server(detail: str | None) -> Judge:
    raise HarnessError("no oracle answers: feed it")


def cannot_be_made(detail: str | None) -> Judge:
    raise RuntimeError("no\nluck")


no_judge = int
no_maker = "I am a string"


def install(monkeypatch: pytest.MonkeyPatch, *named: tuple[str, str]) -> None:
    """Put entry points beside the built-in ones."""
    points = [*entry_points(group=registry.GROUP)]
    points += [EntryPoint(name=name, value=f"{__name__}:{what}", group=registry.GROUP) for name, what in named]
    monkeypatch.setattr(registry, "entry_points", lambda *, group: points)


def made_by_caller(source: str | None) -> Judge:
    judge = LengthRule()
    judge.description = str(source)
    return judge


def make(spec: str) -> Judge:
    return make_judge(spec, own={"probe": made_by_caller, "lm": made_by_caller})


@pytest.mark.parametrize("spec", ["rule:length", "rule:gold"])
def test_rules_are_found_by_their_names(spec: str) -> None:
    """What was asked for is what the judge calls itself."""
    assert make(spec).name == spec


@pytest.mark.parametrize(
    ("spec", "source"), [("probe", None), ("probe:gpt2", "gpt2"), ("lm", None), ("lm:/a:b", "/a:b")]
)
def test_those_that_share_the_benchs_model_are_made_by_the_caller(spec: str, source: str | None) -> None:
    """The registry hands on the language model asked for."""
    assert make(spec).description == str(source)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("prob", "no judge named 'prob': did you mean 'probe'"),
        ("rule:lenght", "no judge named 'rule:lenght': did you mean 'rule:length'"),
        ("rule", "no judge named 'rule:': there are rule:length and rule:gold"),
        ("ollama:", "judge 'ollama' names no model: write it as ollama:MODEL"),
        ("olama:llama3.2", "no judge named 'olama:llama3.2': did you mean 'ollama"),
        ("opanai:http://localhost:8000#m", "did you mean 'openai"),
        ("openai:llama3", "names no model: write it as openai:BASE_URL#MODEL"),
        ("xyzzy", "no judge named 'xyzzy': known are probe, lm:SRC, ollama:MODEL, openai:BASE_URL#MODEL, rule:length"),
        ("", "no judge named '': known are probe"),
    ],
)
def test_a_mistyped_judge_is_answered_with_a_suggestion(spec: str, said: str) -> None:
    """One line: what was asked, what is close, what is known."""
    with pytest.raises(HarnessError) as refusal:
        make(spec)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("spec", "detail"), [("even", None), ("even:", None), ("even:a:b", "a:b")])
def test_a_strangers_judge_is_one_like_others(spec: str, detail: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given what stands behind the colon, and goes by the name that it was asked for."""
    install(monkeypatch, ("even", "Even"))
    judge = make(spec)
    assert (judge.name, judge.description) == (spec, f"even, of {detail}")
    assert judge.p_first_wins([QUESTION, QUESTION]) == [Opinion(p_first=0.5)] * 2


def test_a_stranger_may_say_that_it_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is an opinion too."""
    install(monkeypatch, ("even", "says_none"))
    assert make("even").p_first_wins([QUESTION]) == [Opinion(p_first=None, problem="I cannot tell")]


def test_a_strangers_judge_is_suggested_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is known where it is installed."""
    install(monkeypatch, ("oracle", "Even"))
    with pytest.raises(HarnessError, match=r"did you mean 'oracle'\? known are .*, oracle$"):
        make("oracel")


@pytest.mark.parametrize(("what", "kept"), [("Even", False), ("Remembered", True)])
def test_a_stranger_says_whether_its_answers_are_worth_keeping(
    what: str, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By having `content`."""
    install(monkeypatch, ("even", what))
    assert isinstance(make("even"), Costly) == kept


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("nothing_of_that_name", "cannot be made (AttributeError: "),
        ("cannot_be_made", "cannot be made (RuntimeError: no luck)"),
        ("no_maker", "cannot be made (TypeError: "),
        ("no_judge", "cannot be made (TypeError: "),
        ("Opinion", "cannot be made (TypeError: "),
    ],
)
def test_a_judge_that_cannot_be_made_is_one_line(what: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the judge and where it is from."""
    install(monkeypatch, ("even", what))
    with pytest.raises(HarnessError) as refusal:
        make("even")
    assert str(refusal.value).startswith(f"judge 'even' from {__name__}:{what} {said}")
    assert "\n" not in str(refusal.value)


def test_what_is_made_has_to_be_a_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first thing that it lacks is named."""
    install(monkeypatch, ("even", "saying"))
    with pytest.raises(HarnessError, match=r"has no name: it is to be an evals\.judges\.protocol\.Judge"):
        make("even")


def test_a_module_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its package was removed by halves."""
    point = EntryPoint(name="gone", value="a_package_that_nobody_has:make", group=registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda *, group: [point])
    with pytest.raises(HarnessError, match=r"judge 'gone' from a_package.*cannot be made \(ModuleNotFoundError: "):
        make("gone")


def test_a_strangers_own_words_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows best what the user can do."""
    install(monkeypatch, ("oracle", "no_server"))
    with pytest.raises(HarnessError, match=r"^no oracle answers: feed it$"):
        make("oracle")


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("says_two", "said Opinion(p_first=2.0"),
        ("says_nan", "said Opinion(p_first=nan"),
        ("says_a", "said 'A', which is no Opinion"),
        ("raises", "failed (ValueError: a line and another)"),
        ("leaves", "failed (SystemExit: 4)"),
        ("too_few", "gave 0 opinions on 1 questions"),
    ],
)
def test_a_stranger_that_breaks_its_promise_is_one_line(what: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No number of its own making gets into a report, and no traceback onto the terminal."""
    install(monkeypatch, ("even", what))
    judge = make("even")
    with pytest.raises(HarnessError) as refusal:
        judge.p_first_wins([QUESTION])
    assert str(refusal.value).startswith(f"judge 'even' from {__name__}:{what} {said}")


def test_two_packages_with_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would know whose verdicts these are; one package that is listed twice is one."""
    install(monkeypatch, ("even", "Even"), ("even", "Even"), ("rule", "Even"))
    assert make("even").name == "even"
    with pytest.raises(HarnessError, match=r"judge 'rule' is installed twice, as evals\.judges\.rule:make and tests"):
        make("rule:length")


def test_an_old_installation_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entry points are written when a package is installed."""
    monkeypatch.setattr(registry, "entry_points", lambda *, group: [])
    with pytest.raises(HarnessError, match=r"'ollama:llama3\.2' is not among this installation's .*: pip install it"):
        make("ollama:llama3.2")
