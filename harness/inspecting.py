"""The conductor of `data`: a source is read, and what was understood of it shown. Nothing is trained."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.cache import cache_root
from harness.data.faults import KINDS, Dropped, counted
from harness.data.inspection import Estimate, Inspection, Spread, inspect, spread
from harness.data.reading import Reading, read_source
from harness.data.rows import data_set
from harness.data.sources import find_source
from harness.data.templates import check_template
from harness.phases import Phases
from harness.plain import on_one_line, visible

MEASURED_PAIRS = 2000  # in tokens: at most so many, evenly spaced


@dataclass(frozen=True, kw_only=True)
class DataCommand:
    """What `data` was asked for on the command line."""

    source: str
    columns: tuple[str, ...] = ()
    template: str = "auto"
    model: str | None = None  # whose tokens lengths are told in too
    as_json: bool = False

    def carry_out(self, console: Console, progress: Console) -> int:
        """Read, show; 0, or 1 where a bench would refuse this data. The user's mistakes are raised."""
        check_template(self.template)
        with Phases(progress) as phases:
            root = cache_root()
            phases.begin(f"reading {self.source}")

            def tell(rows: int) -> None:
                if progress.is_terminal or rows % 250_000 == 0:
                    phases.begin(f"reading {self.source}: {rows:,} rows")

            reading = read_source(find_source(self.source, root), self.columns, root, tell)
            phases.begin(f"comparing {len(reading.kept):,} pairs") if len(reading.kept) > 100_000 else None
            found = inspect(reading, self.template)
            if self.model is not None:
                phases.begin(f"measuring in the tokens of {self.model}")
                found = replace(found, lengths=(*found.lengths, *self._in_tokens(self.model, reading)))
        if self.as_json:
            console.print(
                json.dumps(dataclasses.asdict(found), indent=2), markup=False, highlight=False, soft_wrap=True
            )
        else:
            _show(found, console)
        return 1 if found.refused else 0

    def _in_tokens(self, model: str, reading: Reading) -> Iterator[Spread]:
        """Lengths as the model reads them: its template in the prompt, its end token in the responses."""
        from models.language_model import make_row
        from models.sources import find_model

        tokens = find_model(model, cache_root()).load()[1]
        pairs = data_set(reading, self.template, tokens.render_chat if tokens.chat_template else None).pairs
        places = np.linspace(0, len(pairs) - 1, min(len(pairs), MEASURED_PAIRS)).astype(int).tolist()
        rows = [make_row(tokens, (pair := pairs[at]).prompt, (pair.chosen, pair.rejected)) for at in places]
        lengths = [(len(row.prompt), *(len(response) for response in row.responses)) for row in rows]
        for what, column in zip(("prompt", "chosen", "rejected"), zip(*lengths, strict=True), strict=True):
            yield spread(what, "tokens", np.array(column))


def _show(found: Inspection, console: Console) -> None:
    def say(line: str = "") -> None:
        console.print(Text(line), soft_wrap=True)

    say(f"{on_one_line(found.name)}: read as {found.format}")
    say(f"sha256 {found.digest[:12]}… · columns {on_one_line(', '.join(found.columns))}")
    say(f"template {found.template} · {found.rows:,} rows, {found.pairs:,} pairs, {found.prompts:,} different prompts")
    if found.checkable:
        say(f"{found.checkable:,} pairs know their true answer")
    for note in found.notes:
        say(on_one_line(note))
    say()
    console.print(_splits(found))
    for overlap in found.overlaps:
        if overlap.prompts or overlap.responses:
            first, second = overlap.splits
            say(
                f"{first} and {second} share {overlap.prompts:,} prompts; {overlap.responses:,} chosen responses of "
                f"{second} are chosen in {first} too, word for word"
            )
    if not any(overlap.prompts for overlap in found.overlaps):
        say("no prompt is in two splits")
    say()
    console.print(_lengths(found.lengths))
    say(f"the chosen response is longer in {_share(found.longer)} of pairs, by {_signed(found.difference)} characters")
    say(f"{found.several:,} prompts have several pairs; {found.contradicting:,} pairs contradict another of theirs")
    say()
    for line in _left_out(found):
        say(line)
    for example in found.examples:
        say()
        say(f"row {example.row:,}")
        for name in ("prompt", "chosen", "rejected"):
            say(f"  {name:<9}{visible(getattr(example, name)).replace(chr(10), chr(10) + 11 * ' ')}")
    if found.refused:
        say()
        say(f"A bench would refuse this data: {on_one_line(found.refused)}")


def _splits(found: Inspection) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("split, drawn by prompt" if found.drawn else "split, as the rows name it")
    for heading in ("pairs", "prompts"):
        table.add_column(heading, justify="right")
    for part in found.splits:
        table.add_row(part.name, f"{part.pairs:,}", f"{part.prompts:,}")
    return table


def _lengths(lengths: Sequence[Spread]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("length")
    table.add_column("in")
    for heading in ("mean", "median", "95%", "longest"):
        table.add_column(heading, justify="right")
    for s in lengths:
        table.add_row(s.what, s.unit, f"{s.mean:,.0f}", f"{s.median:,.0f}", f"{s.p95:,.0f}", f"{s.longest:,}")
    return table


def _share(share: Estimate) -> str:
    interval = "" if share.low is None or share.high is None else f" ({100 * share.low:.1f} to {100 * share.high:.1f})"
    return f"{100 * share.value:.1f}%{interval}"


def _signed(mean: Estimate) -> str:
    interval = "" if mean.low is None or mean.high is None else f" ({mean.low:+.1f} to {mean.high:+.1f})"
    return f"{mean.value:+.1f}{interval}"


def _left_out(found: Inspection) -> Iterator[str]:
    """What is dropped and why, with the places of some."""
    if not found.dropped:
        yield "nothing is left out"
    for dropped in found.dropped:
        share = f"{counted(dropped.count)} of {counted(found.rows)} rows"
        yield f"left out: {share} {KINDS[dropped.kind]}: {_places(dropped)}"


def _places(dropped: Dropped) -> str:
    rows = ", ".join(map(str, dropped.rows)) + (", …" if dropped.count > len(dropped.rows) else "")
    return f"rows {rows}. The first: {on_one_line(f'{dropped.at} {dropped.what}')}"
