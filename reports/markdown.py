"""report.md: the report for pull requests. Renders on GitHub; nothing that a model wrote acts as markup."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from html import escape

from reports.numbers import Cell
from reports.page import Block, Browser, Code, Figure, Page, Response, Sample, Section, Table
from reports.text import clipped

LIMIT_BYTES = 60_000  # what a pull request's comment bears
SHOWN_CHARACTERS = 500  # of a response: the whole of most, enough of the rest
SHOWN_RESPONSES = 12  # a prompt
WRAP = 100  # columns: code blocks do not wrap on GitHub


def markdown(page: Page) -> str:
    """The page as Markdown, with as many samples as fit into the limit."""
    samples = max((len(_samples(section)) for section in page.sections), default=0)
    for count in range(samples, -1, -1):
        text = _page(page, count)
        if len(text.encode()) <= LIMIT_BYTES:
            return text
    return _cut(text)


def _cut(text: str) -> str:
    """Only a run of very many trials comes here: whole lines up to the limit, and where the rest is."""
    rest = "\n\nThe rest did not fit into this file: see report.html and report.json.\n"
    kept = text.encode()[: LIMIT_BYTES - len(rest.encode())].decode(errors="ignore")
    return kept.rpartition("\n")[0] + rest


def _samples(section: Section) -> tuple[Sample, ...]:
    return tuple(block for block in section.blocks if isinstance(block, Sample))


def _page(page: Page, samples: int) -> str:
    parts = [
        f"# {inline(page.title)}",
        inline(page.subtitle),
        "\n".join(f"> {inline(sentence)}  " for sentence in page.answer),
    ]
    if page.warnings:
        parts += ["## Before you believe it", "\n".join(f"- {inline(warning)}" for warning in page.warnings)]
    parts += [_section(section, samples) for section in page.sections]
    return "\n\n".join(parts) + "\n"


def _section(section: Section, samples: int) -> str:
    shown = set(map(id, _samples(section)[:samples]))
    shared = [block for block in section.blocks if not isinstance(block, Browser)]
    blocks = [block for block in shared if not isinstance(block, Sample) or id(block) in shown]
    left_out = len(shared) - len(blocks)
    parts = [f"## {inline(section.title)}", *map(_block, blocks)]
    if left_out:
        parts.append(f"{left_out} more in report.html: they did not fit into this file.")
    return "\n\n".join(parts)


def _block(block: Block) -> str:
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Figure):
        return f"![{inline(block.description)}](figures/{block.name}.png)\n\n*{inline(block.caption)}*"
    if isinstance(block, Sample):
        return _sample(block)
    if isinstance(block, Code):
        return fenced(block.text, 2000, wrap=False)
    if isinstance(block, Browser):
        return ""
    return inline(block)


def _table(table: Table) -> str:
    head = (f"{inline(c.title)}<br><sub>{inline(c.hint)}</sub>" if c.hint else inline(c.title) for c in table.columns)
    marks = ("---:" if column.numeric else "---" for column in table.columns)
    lines = [_row(head), _row(marks), *(_row(map(_cell, row)) for row in table.rows)]
    if table.note:
        lines += ["", inline(table.note)]
    body = "\n".join(lines)
    return _folded(table.caption, body) if table.folded else f"**{inline(table.caption)}**\n\n{body}"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    value = f"**{inline(cell.value)}**" if cell.strong else inline(cell.value)
    return f"{value}<br><sub>{inline(cell.interval)}</sub>" if cell.interval else value


def _sample(sample: Sample) -> str:
    shown = sample.responses[:SHOWN_RESPONSES]
    parts = [fenced(sample.question, SHOWN_CHARACTERS), *map(_response, shown)]
    if len(shown) < len(sample.responses):
        parts.append(f"{len(sample.responses) - len(shown)} more responses in report.html.")
    return _folded(f"Prompt: {sample.why}", "\n\n".join(parts))


def _folded(summary: str, body: str) -> str:
    """Opens on demand. The summary stands in an HTML block, where Markdown's escapes do not work."""
    return f"<details><summary>{escape(' '.join(summary.split()))}</summary>\n\n{body}\n\n</details>"


def _response(response: Response) -> str:
    remark = f" ({inline(response.remark)})" if response.remark else ""
    return f"**{inline(response.who)}**{remark}\n\n{fenced(response.text, SHOWN_CHARACTERS)}"


def fenced(text: str, characters: int, *, wrap: bool = True) -> str:
    """Text in a code block, its fence longer than any run of backticks in it: nothing inside is markup."""
    shown = clipped(text, characters)
    if wrap:
        shown = "\n".join(_wrapped(line) for line in shown.split("\n"))
    longest = max((len(run) for run in re.findall(r"`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{shown or '(empty)'}\n{fence}"


def _wrapped(line: str) -> str:
    return textwrap.fill(line, WRAP, replace_whitespace=False, drop_whitespace=True)


def inline(text: str) -> str:
    """Text as text: no character of it is markup, makes a link or calls anybody."""
    flat = " ".join(text.split())
    escaped = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    escaped = re.sub(r"([\\`*_\[\]|#~])", r"\\\1", escaped)
    escaped = re.sub(r"(?<!\w)@", "@<!-- -->", escaped)  # GitHub calls the user named after a bare @
    return re.sub(r"(?i)(https?|ftp|www|mailto|xmpp)([:.])", r"\1<!-- -->\2", escaped)  # nor links bare addresses
