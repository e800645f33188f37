"""What a gate found, in words and numbers: on the terminal, as a pull request's comment, and as JUnit XML."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.plain import on_one_line, visible
from harness.records import GateReport, GateRow
from reports.glossary import term
from reports.markdown import inline
from reports.numbers import figure, percent, signed, suffix
from reports.text import counted, listed

_STYLES = {"pass": "green", "regression": "bold red", "cannot tell": "yellow"}
_MARKS = {"pass": "✓", "regression": "✗", "cannot tell": "?"}
_HEADINGS = {
    "pass": "No regression",
    "regression": "Regression",
    "cannot tell": "Cannot tell",
}
_TITLES = ("Recipe", "Metric", "Baseline", "Now", "Change", "Allowed", "Verdict", "n", "Power")
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # characters that XML 1.0 cannot hold


def gate_sentence(report: GateReport) -> str:
    """The verdict and what to do about it, in one or two sentences."""
    sure = f"{percent(report.confidence)}% confidence over {counted(len(report.rows), 'test')}"
    worse = [row for row in report.rows if row.verdict == "regression"]
    unsure = [row for row in report.rows if row.verdict == "cannot tell"]
    if worse:
        return f"Regression: {listed([_told(row) for row in worse])} ({sure})."
    if unsure:
        wanting: dict[str, list[str]] = {}
        for row in unsure:
            wanting.setdefault(_wanting(row), []).append(f"{term(row.metric).title} of {_name(row)}")
        return f"Cannot tell: {'; '.join(f'{listed(rows)} {words}' for words, rows in wanting.items())}."
    seeds = min(min(row.seeds) for row in report.rows)
    speaks = " With one seed this speaks of these checkpoints, not of the recipes." if seeds < 2 else ""
    return f"No regression: every drop lies below its margin ({sure}).{speaks}"


def _told(row: GateRow) -> str:
    way = "fell" if row.better == "higher" else "rose"
    return f"{term(row.metric).title} of {_name(row)} {way} by {_amount(row.drop or 0.0, row.unit)} ({_interval(row)})"


def _wanting(row: GateRow) -> str:
    """What a row lacks to be decided."""
    if row.reason:
        return f"({on_one_line(row.reason)})"
    lacks = f"{row.needed:,} held-out prompts would settle it" if row.needed else "it takes more seeds"
    return f"changed by {_change(row)}, and {lacks} (this run: {row.n:,})"


def power_words(row: GateRow) -> str:
    """What the test would have caught: "a 5-point drop would be caught 83% of the time"."""
    if row.power is None:
        return ""
    way = "drop" if row.better == "higher" else "rise"
    size = f"{100 * row.margin:.3g}-point {way}" if row.unit == "share" else f"{way} of {_amount(row.margin, row.unit)}"
    return f"a {size} would be caught {percent(row.power)}% of the time"


def print_gate(report: GateReport, console: Console) -> None:
    """The table, what each test would have caught, and the verdict last, where a log ends."""
    console.print(_table(report, console.width))
    for words in _caught(report):
        console.print(Text(words, style="dim"))
    console.print(Text(visible(gate_sentence(report)), style=_STYLES[report.verdict]))


def _caught(report: GateReport) -> list[str]:
    """The tests' power, a line for each metric and power; which recipes it is of, where not of all."""
    named: dict[tuple[str, str], list[str]] = {}
    for row in report.rows:
        if row.power is not None:
            named.setdefault((term(row.metric).title, power_words(row)), []).append(_name(row))
    recipes = {_name(row) for row in report.rows}
    return [
        visible(f"{title}{'' if set(names) == recipes else f' of {listed(names)}'}: {words}")
        for (title, words), names in named.items()
    ]


def _table(report: GateReport, width: int) -> Table:
    """What a narrow window has no room for is in the sentences."""
    wide = width >= 100
    kept = [i for i, title in enumerate(_TITLES) if wide or title not in ("Baseline", "Now", "n", "Power")]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for i in kept:
        table.add_column(_TITLES[i], justify="right" if 2 <= i <= 5 or i >= 7 else "left", overflow="fold")
    for row in report.rows:
        cells = _cells(row)
        verdict = Text(cells[6], style=_STYLES[row.verdict])
        table.add_row(*(verdict if i == 6 else Text(visible(cells[i])) for i in kept))
    return table


def _cells(row: GateRow) -> tuple[str, ...]:
    known = row.before is not None and row.now is not None
    return (
        _name(row),
        term(row.metric).title,
        figure(row.before, row.unit) if row.before is not None else "—",
        figure(row.now, row.unit) if row.now is not None else "—",
        _change(row) if known else "—",
        f"{'−' if row.better == 'higher' else '+'}{_amount(row.margin, row.unit)}",
        f"{_MARKS[row.verdict]} {row.verdict}",
        f"{row.n:,}" if row.n else "—",
        f"{percent(row.power)}%" if row.power is not None else "—",
    )


def _name(row: GateRow) -> str:
    return row.recipe if row.recipe == row.against else f"{row.recipe} (was {row.against})"


def _change(row: GateRow) -> str:
    """Now − before, with its interval: "−8 points (−14 to −2)"."""
    assert row.drop is not None
    assert row.low is not None
    assert row.high is not None
    way = -1.0 if row.better == "higher" else 1.0
    low, high = sorted((way * row.low, way * row.high))
    scale = 100 if row.unit == "share" else 1
    value, *ends = (signed(scale * x, 1 if row.unit == "share" else 2) for x in (way * row.drop, low, high))
    return f"{value}{' points' if row.unit == 'share' else suffix(row.unit)} ({ends[0]} to {ends[1]})"


def _interval(row: GateRow) -> str:
    scale = 100 if row.unit == "share" else 1
    return f"{scale * (row.low or 0):.3g} to {scale * (row.high or 0):.3g}"


def _amount(value: float, unit: str) -> str:
    return f"{100 * value:.3g} points" if unit == "share" else f"{value:.3g}{suffix(unit)}"


def gate_markdown(report: GateReport) -> str:
    """A comment for a pull request: the verdict, the table, and what the tests could have caught, folded."""
    lines = [
        f"## {_MARKS[report.verdict]} {_HEADINGS[report.verdict]}",
        "",
        inline(gate_sentence(report)),
        "",
        f"| {' | '.join(_TITLES)} |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- | ---: | ---: |",
        *(f"| {' | '.join(map(inline, _cells(row)))} |" for row in report.rows),
        "",
        "<details><summary>What this gate would have caught</summary>",
        "",
        *(f"- {inline(words)}" for words in _caught(report)),
        "",
        "Changes are of the same prompts, with intervals that hold for all rows at once. A regression is a change "
        "whose interval lies beyond zero and reaches what is allowed; a pass is one whose interval stays within it.",
        "",
        "</details>",
    ]
    return "\n".join(lines) + "\n"


def gate_junit(report: GateReport) -> str:
    """JUnit XML, a test case a row: a regression is a failure; what cannot be told is an error, so never green."""
    count = {verdict: sum(row.verdict == verdict for row in report.rows) for verdict in _MARKS}
    suite = ElementTree.Element(
        "testsuite",
        name="prefbench gate",
        tests=str(len(report.rows)),
        failures=str(count["regression"]),
        errors=str(count["cannot tell"]),
    )
    for row in report.rows:
        case = ElementTree.SubElement(suite, "testcase", classname=visible(_name(row)), name=visible(row.metric))
        if row.verdict != "pass":
            kind, words = ("failure", _told(row)) if row.verdict == "regression" else ("error", _wanting(row))
            ElementTree.SubElement(case, kind, message=visible(words)).text = visible(power_words(row))
    ElementTree.indent(suite)
    text = _NO_XML.sub("\ufffd", ElementTree.tostring(suite, encoding="unicode"))
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'
