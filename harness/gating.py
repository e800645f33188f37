"""The gate's conductor: from a run's folder and a baseline to a verdict, and the files that it is told in."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from evals.gate import gate
from harness import store
from harness.errors import HarnessError
from harness.records import GateReport, RunRecord, Standing, StandingTrial
from harness.rules import default_rules, read_rules
from reports.deciding import deciding
from reports.gate import gate_junit, gate_markdown, print_gate
from reports.load import load_run

EXIT_CODES = {"pass": 0, "regression": 1, "cannot tell": 4}


@dataclass(frozen=True, kw_only=True)
class GateCommand:
    """What `gate` was asked for on the command line."""

    run: Path
    baseline: Path | None = None
    rules: Path | None = None
    recipes: tuple[str, ...] = ()  # NEW=OLD
    save_baseline: Path | None = None
    update_baseline: bool = False
    junit: Path | None = None
    markdown: Path | None = None

    def carry_out(self, console: Console) -> int:
        """Check, tell, write; the exit code. What the user can mend is raised before anything is written."""
        self._refuse_nonsense()
        run = standing_of(load_run(self.run))
        if not run.trials:
            raise HarnessError(f"{self.run} has no finished trial: run it to its end first")
        found = None
        if self.baseline is not None:
            found = check(run, read_standing(self.baseline), rules=self.rules, recipes=self.recipes)
            print_gate(found, console)
            self._write(found)
        if self.save_baseline is not None:
            self._save(run, self.save_baseline, console)
        if self.update_baseline and found is not None and self.baseline is not None:
            if found.verdict == "regression" or any(row.reason for row in found.rows):
                console.print(f"{self.baseline} is left as it was", markup=False, highlight=False)
            else:
                self._save(run, self.baseline, console)
        return EXIT_CODES[found.verdict] if found else 0

    def _refuse_nonsense(self) -> None:
        if self.baseline is None and self.save_baseline is None:
            raise HarnessError("gate needs --baseline RUN or FILE to compare with, or --save-baseline FILE to make one")
        unused = {"rules": self.rules, "recipe": self.recipes, "junit": self.junit, "markdown": self.markdown}
        idle = next(
            (name for name, value in unused.items() if value), "update-baseline" if self.update_baseline else ""
        )
        if self.baseline is None and idle:
            raise HarnessError(f"--{idle} needs --baseline RUN or FILE: there is nothing to compare with")
        if self.update_baseline and self.baseline is not None and self.baseline.is_dir():
            raise HarnessError(
                f"--update-baseline writes a file, and {self.baseline} is a run's folder: give the file that "
                "gate RUN --save-baseline wrote"
            )
        if self.update_baseline and self.recipes:
            raise HarnessError(
                "--update-baseline takes all recipes of RUN, and --recipe checks only some: leave one out"
            )
        written = {"save-baseline": self.save_baseline, "junit": self.junit, "markdown": self.markdown}
        taken = {"baseline": self.baseline.resolve()} if self.baseline else {}
        for name, path in ((name, path) for name, path in written.items() if path is not None):
            if path.is_dir():
                raise HarnessError(f"--{name} {path} is a folder: name a file")
            other = next((other for other, there in taken.items() if there == path.resolve()), None)
            if other is not None:
                raise HarnessError(f"--{name} and --{other} name the same file {path}: name two")
            taken[name] = path.resolve()

    def _write(self, found: GateReport) -> None:
        if self.junit is not None:
            store.write_text(self.junit, gate_junit(found))
        if self.markdown is not None:
            store.write_text(self.markdown, gate_markdown(found))

    @staticmethod
    def _save(run: Standing, path: Path, console: Console) -> None:
        store.write_json(path, run, indent=None)
        console.print(f"baseline of {len(run.trials)} trials written to {path}", markup=False, highlight=False)


def read_standing(source: Path) -> Standing:
    """What a run's folder, or the file that --save-baseline wrote, says was scored."""
    if source.is_dir():
        return standing_of(load_run(source))
    if not source.exists():
        raise HarnessError(
            f"no baseline {source}: give a run's folder, or the file that gate RUN --save-baseline wrote"
        )
    try:
        standing = store.read_json(source, Standing)
    except HarnessError as error:
        raise HarnessError(
            f"{source} is no baseline: give a run's folder, or a file of gate --save-baseline"
        ) from error
    columns = [standing.anchor, *(values for trial in standing.trials for values in trial.values.values())]
    count = len(set(standing.prompts))
    if standing.schema != 1 or any(len(column) != count for column in (standing.prompts, *columns)):
        raise HarnessError(f"{source} is damaged, or of another version: write it again with gate --save-baseline")
    return standing


def standing_of(run: RunRecord) -> Standing:
    """A run's per-prompt scores and the ground that they were measured on."""
    bench = run.bench
    found = [prompt for trial in run.trials for values in trial.scores.per_prompt.values() for prompt in values]
    prompts = tuple(dict.fromkeys((*(prompt.prompt_id for prompt in run.prompts), *sorted(set(found)))))
    answered = {c.prompt_id: store.digest(c.text)[:12] for c in run.anchor_completions}
    held_out = [(p.prompt_id, p.question, p.chosen, p.gold and dataclasses.asdict(p.gold)) for p in run.prompts]
    read = [
        (p.pair, p.prompt_id, p.chosen_tokens, p.rejected_tokens) for p in (run.trials[0].pairs if run.trials else ())
    ]
    return Standing(
        model=bench.model,
        model_digest=bench.model_digest,
        data=bench.data,
        template=bench.template,
        held_out_digest=store.digest(held_out),
        pairs_digest=store.digest(read),
        labelled_digest=bench.labelled_digest,
        max_new_tokens=bench.max_new_tokens,
        judges={card.name: card.description for card in run.judges},
        deciding=deciding(run).metric,
        units={name: score.unit for trial in run.trials for name, score in trial.scores.scores.items()},
        prompts=prompts,
        anchor=tuple(map(answered.get, prompts)),
        trials=tuple(
            StandingTrial(
                recipe=trial.recipe,
                seed=trial.seed,
                values={m: tuple(map(values.get, prompts)) for m, values in trial.scores.per_prompt.items()},
            )
            for trial in run.trials
        ),
    )


def check(run: Standing, baseline: Standing, *, rules: Path | None = None, recipes: Sequence[str] = ()) -> GateReport:
    """Gate a run; HarnessError where it stands on other ground than the baseline, or no recipe is in both."""
    _refuse_other_ground(run, baseline)
    measured = {metric for standing in (run, baseline) for trial in standing.trials for metric in trial.values}
    units = {metric: baseline.units.get(metric) or run.units.get(metric, "") for metric in measured}
    pairs = _pairs(run, baseline, recipes)
    asked = read_rules(rules, units, tuple(pairs.values())) if rules else default_rules(baseline.deciding, units)
    if not asked.rules:
        raise HarnessError("neither run has a metric that the gate checks by default: give --rules")
    return gate(baseline, run, asked.rules, pairs, asked.confidence)


def _refuse_other_ground(run: Standing, baseline: Standing) -> None:
    for what, now, before, mend in (
        ("models", f"{run.model} {run.model_digest[:8]}", f"{baseline.model} {baseline.model_digest[:8]}", "--model"),
        ("templates", run.template, baseline.template, "--template"),
        ("held-out prompts", run.held_out_digest[:8], baseline.held_out_digest[:8], "--data and --eval-prompts"),
        ("length limits", run.max_new_tokens, baseline.max_new_tokens, "--max-new-tokens"),
    ):
        if now != before and None not in (now, before):
            raise HarnessError(
                f"the {what} differ ({before} in the baseline, {now} in this run), so nothing can be compared: run "
                f"with the baseline's {mend}, or save a new baseline"
            )


def _pairs(run: Standing, baseline: Standing, asked: Sequence[str]) -> dict[str, str]:
    """The run's recipe → the baseline's: as asked with NEW=OLD, else every one of the baseline by its own name."""
    mine, theirs = ({trial.recipe: None for trial in standing.trials} for standing in (run, baseline))
    if not asked:
        if not mine.keys() & theirs.keys():
            raise HarnessError(
                f"no recipe is in both: the run has {_listed(mine)}, the baseline {_listed(theirs)}; "
                "name two with --recipe NEW=OLD"
            )
        return {recipe: recipe for recipe in theirs}
    pairs: dict[str, str] = {}
    for words in asked:
        new, old = _split(words, mine)
        for name, known, where in ((new, mine, "run"), (old, theirs, "baseline")):
            if name not in known:
                close = difflib.get_close_matches(name, known, 1, 0.4)
                hint = f"did you mean {close[0]!r}?" if close else f"it has {_listed(known)}"
                raise HarnessError(f"--recipe {words}: no recipe {name!r} in the {where}: {hint}")
        if pairs.setdefault(new, old) != old:
            raise HarnessError(f"--recipe {words}: {new} is checked against {pairs[new]} already: name each once")
    return pairs


def _split(words: str, mine: dict[str, None]) -> tuple[str, str]:
    """NEW and OLD at the = between them, or one name for both; names of recipes with knobs hold = too."""
    places = [i for i, letter in enumerate(words) if letter == "="]
    if words in mine or not places:
        return words, words
    cut = next((i for i in places if words[:i] in mine), places[0])
    return words[:cut], words[cut + 1 :]


def _listed(names: dict[str, None]) -> str:
    return ", ".join(names) or "none"
