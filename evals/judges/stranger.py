"""A judge from another package, held to what it promised: whatever else it does is one line with its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint
from typing import Any, cast

from evals.judges.memory import Costly
from evals.judges.protocol import Judge, Opinion, Question
from harness.errors import HarnessError

OURS = "evals.judges."
Make = Callable[[str | None], Judge]  # of what stands behind the colon on the command line


def load_judge(point: EntryPoint, spec: str, detail: str | None) -> Judge:
    """The judge that an entry point makes. HarnessError where it cannot, in its own words if it raised one."""
    whose = f"judge {spec!r} from {point.value}"
    made = _trusting_nobody(f"{whose} cannot be made", lambda: point.load()(detail))
    if point.value.startswith(OURS):
        return cast("Judge", made)  # a fault of ours keeps its traceback
    missing = [part for part in ("name", "description", "p_first_wins") if not hasattr(made, part)]
    if missing:
        raise HarnessError(f"{whose} has no {missing[0]}: it is to be an evals.judges.protocol.Judge")
    return CostlyStranger(made, spec, whose) if isinstance(made, Costly) else Stranger(made, spec, whose)


class Stranger:
    """Passes questions on and looks at what comes back; its name is what was asked for."""

    def __init__(self, judge: Judge, spec: str, whose: str) -> None:
        self.name, self.description = spec, str(judge.description)
        self._judge, self._whose = judge, whose

    def p_first_wins(self, questions: Sequence[Question]) -> list[Opinion]:
        """One opinion a question, or HarnessError."""
        opinions: list[Opinion] = _trusting_nobody(
            f"{self._whose} failed", lambda: list(self._judge.p_first_wins(questions))
        )
        if len(opinions) != len(questions):
            raise HarnessError(f"{self._whose} gave {len(opinions)} opinions on {len(questions)} questions")
        for opinion in opinions:
            if not _is_sound(opinion):
                raise HarnessError(f"{self._whose} said {opinion!r:.100}, which is no Opinion with a P from 0 to 1")
        return opinions


class CostlyStranger(Stranger):
    """One whose answers are worth keeping."""

    def __init__(self, judge: Costly, spec: str, whose: str) -> None:
        super().__init__(judge, spec, whose)
        self._content = judge.content

    def content(self, question: Question) -> str:
        """As the stranger says."""
        return str(_trusting_nobody(f"{self._whose} failed", lambda: self._content(question)))


def _trusting_nobody(what: str, call: Callable[[], Any]) -> Any:
    """What the call gives; HarnessError in one line whatever it raises, its own HarnessError as it stands."""
    try:
        return call()
    except HarnessError:
        raise
    except (Exception, SystemExit) as error:  # a stranger's code may fail in any way
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise HarnessError(f"{what} ({reason})") from error


def _is_sound(opinion: object) -> bool:
    if not isinstance(opinion, Opinion):
        return False
    p = opinion.p_first
    return p is None or (isinstance(p, int | float) and 0 <= p <= 1)
