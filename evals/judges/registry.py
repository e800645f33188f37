"""From what `--judge` says to a judge: `probe`, `ollama:MODEL`, `rule:length`, `rule:gold`."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from evals.judges.protocol import Judge
from harness.errors import HarnessError

KNOWN = ("probe", "ollama:MODEL", "rule:length", "rule:gold")

MakeProbe = Callable[[str | None], Judge]  # of the language model asked for by `probe:SRC`; None is the default


def make_judge(spec: str, *, make_probe: MakeProbe) -> Judge:
    """The judge that a spec names; one that must be fitted first is made by the caller's `make_probe`."""
    kind, _, detail = spec.partition(":")
    if kind == "probe":
        return make_probe(detail or None)
    if kind == "ollama" and detail:
        return _ollama(detail)
    if kind == "rule" and detail in ("length", "gold"):
        return _rule(detail)
    raise HarnessError(f"no judge named {spec!r}: {_suggestion(spec)}known are {', '.join(KNOWN)}")


def _ollama(model: str) -> Judge:
    from evals.judges.ollama import OllamaJudge  # its HTTP client is slow to import, and most runs need none

    return OllamaJudge(model)


def _rule(name: str) -> Judge:
    from evals.judges.rule import GoldRule, LengthRule

    return LengthRule() if name == "length" else GoldRule()


def _suggestion(spec: str) -> str:
    close = difflib.get_close_matches(spec, KNOWN, n=1)
    return f"did you mean {close[0]!r}? " if close else ""
