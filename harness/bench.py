"""The conductor: from what was asked to a report, one file after another, none made twice.

data → stages → checkpoint → completions → verdicts → scores → report. Everything a user can get wrong is checked before
anything is written.
"""

from __future__ import annotations

import functools
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from filelock import FileLock, Timeout

import evals
import harness.data
import harness.ground
import models
from evals.comparison import compare_trials
from evals.completions import complete, sample
from evals.divergence import measure_samples
from evals.judges.probe import Probe
from evals.judges.protocol import Judge
from evals.judges.qualification import qualify
from evals.judges.registry import make_judge
from evals.judging import agreements, judge_completions
from evals.rewards import measure_pairs
from evals.score import Evidence, score_trial
from harness import cache, store
from harness.agenda import DOING, Agenda, fitting, qualifying, training
from harness.described import describe
from harness.engines.graph import TrainNode
from harness.engines.local import LocalEngine
from harness.errors import HarnessError
from harness.events import Ahead, Part
from harness.ground import Ground, Say, lay_ground
from harness.journal import JOURNAL, Journal
from harness.plain import visible
from harness.progress import Watch
from harness.recipes.registry import choose
from harness.records import Completion, JudgeCard, PairLogp, Sample, TrialScores, Verdict, win_rate_by
from harness.resolution import resolve, settle_dtype
from harness.settings import BenchFile, Resolved, refuse_another
from harness.training.budget import parse_budget
from harness.training.train import Execution
from harness.trials import BenchPlan, Trial, plan_bench, trial_ledger
from models.failure import ModelError
from models.language_model import LanguageModel
from models.sources import find_model
from reports.build import build_report

ANCHOR_FILES = ("train.jsonl", "completions.jsonl", "pairs.jsonl", "scores.json")
TRIAL_FILES = (
    *("train.jsonl", "ledger.json", "completions.jsonl", "samples.jsonl", "pairs.jsonl", "verdicts.jsonl"),
    "scores.json",  # written last
)
LOCK_SECONDS = 1.0  # to wait for a run's folder: who follows a run that was killed takes it for an instant
SAMPLE_SEED = 20_260_000  # of the draws that all checkpoints sample with
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run came to."""

    folder: Path
    report: Path
    failed: dict[str, str]  # trial → why


def run_bench(wanted: BenchFile, folder: Path, say: Say, make_watch: Callable[[], Watch]) -> Outcome:
    """Run a bench in its folder, or go on with it. What the user can mend is raised before anything is written."""
    wanted = refuse_another(folder, wanted) or wanted
    parse_budget(wanted.asked.budget)
    choices = choose(wanted.resolved.recipes if wanted.resolved else wanted.asked.recipes)
    torch.set_num_threads(wanted.resolved.threads if wanted.resolved else torch.get_num_threads())
    root = cache.cache_root()
    ground = lay_ground(wanted.asked, root, say)
    dtype = settle_dtype(wanted, ground.device)
    judges = [_judge(spec, ground, dtype, root, say) for spec in wanted.asked.judges]
    bench = resolve(wanted, ground, choices, [judge.description for judge in judges], dtype, say)
    assert bench.resolved is not None
    seeds = range(bench.asked.first_seed, bench.asked.first_seed + bench.asked.seeds)
    plan = plan_bench(bench.resolved, ground, choices, seeds)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=LOCK_SECONDS):
            refuse_another(folder, bench)  # again, now that no other run can begin here
            bench.write(folder / "bench.toml")
            with Journal(folder / JOURNAL, make_watch()) as journal:
                return _Conductor(bench, bench.resolved, ground, plan, judges, folder, root, journal).run()
    except Timeout as error:
        raise HarnessError(f"another run is at work in {folder}: wait for it, or choose another --out") from error


def _judge(spec: str, ground: Ground, dtype: torch.dtype, root: Path, say: Say) -> Judge:
    """The judge, its server asked already; a probe is fitted when it is first needed."""

    def make_probe(source: str | None) -> Judge:
        found = find_model(source or "smollm2-135m", root, say)
        model, tokens = (ground.model, ground.tokens) if found == ground.source else found.load()
        reader = LanguageModel.of(model.to(ground.device), tokens, dtype)
        return Probe(reader, f"{found.name} (sha256 {found.digest[:12]}…)", name=spec)

    if spec == "rule:gold" and not ground.golds:
        raise HarnessError(
            f"judge 'rule:gold' needs data that knows the truth, and {ground.dataset.name!r} does not: --judge probe"
        )
    return make_judge(spec, make_probe=make_probe)


class _Conductor:
    """Carries a planned bench out in its folder: a file that is there is not made again."""

    def __init__(
        self,
        bench: BenchFile,
        resolved: Resolved,
        ground: Ground,
        plan: BenchPlan,
        judges: list[Judge],
        folder: Path,
        root: Path,
        journal: Journal,
    ) -> None:
        self.bench, self.resolved, self.ground, self.plan, self.judges = bench, resolved, ground, plan, judges
        self.folder, self.root, self.journal = folder, root, journal
        self.dtype: torch.dtype = getattr(torch, resolved.dtype)
        self.engine = LocalEngine(
            cache=root,
            terms=plan.terms,
            execution=Execution(dtype=self.dtype, micro_batch_tokens=resolved.micro_batch_tokens),
            fresh=ground.fresh,
            device=ground.device,
            on_stage=lambda node: journal.phase(training(node)),
            on_step=journal.step,
        )
        self.failed: dict[str, str] = {}

    def run(self) -> Outcome:
        if self.resolved.budget_pairs is not None:
            self.journal.say(
                "a budget in pairs gives recipes that cost more a pair more compute; time and FLOPs do not"
            )
        self._set_stale_aside()
        self.journal.plan(self._agenda())
        self._write_records()
        self._measure_anchor()
        done = all(self._is_done(trial) for trial in self.plan.trials)
        for judge in self.judges:
            if not (done and self._card(judge).exists()):
                self._qualify(judge)
        self.journal.done("done")
        for trial in self.plan.trials:
            self._attempt(trial)
        names, scores = [judge.name for judge in self.judges], self._scores()
        store.write_json(self.folder / "comparisons.json", compare_trials(names, scores))
        store.write_json(self.folder / "agreements.json", agreements(names, scores))
        self._write_records()
        report = build_report(self.folder)
        cache.prune(self.root)
        return Outcome(folder=self.folder, report=report, failed=self.failed)

    def _set_stale_aside(self) -> None:
        """Move away what was measured of other checkpoints, or with other code: it must not pass for this."""
        anchor = self.plan.anchor.digest
        made_of = {self.folder / "judges": [], self.folder / "anchor": [anchor]}
        made_of |= {self._trial_folder(t): [anchor, *(node.digest for node in t.nodes)] for t in self.plan.trials}
        for folder, nodes in made_of.items():
            stamp, path = store.digest(nodes, measuring_digest()), folder / "made_of"
            if path.exists() and store.read_json(path, str) == stamp:
                continue
            if folder.exists():
                aside = store.set_aside(folder, self.folder / "replaced")
                self.journal.say(
                    f"{folder.name} was made by other code or from other checkpoints: it is made again, "
                    f"and the old one kept in {aside}"
                )
            store.write_json(path, stamp)

    def _agenda(self) -> tuple[Ahead, ...]:
        """What this session has still to do: for the anchor and the judges, then for each trial."""
        ground, folder = self.ground, self.folder / "anchor"
        agenda = Agenda(self.root, prompts=len(ground.held_out), pairs=len(ground.labelled), judges=len(self.judges))
        anchor = () if self._anchor_is_done() else agenda.parts([self.plan.anchor], folder, ANCHOR_FILES)
        judges = tuple(part for judge in self.judges for part in self._ahead_of(judge))
        trials = (
            () if self._is_done(t) else agenda.parts(t.nodes, self._trial_folder(t), TRIAL_FILES)
            for t in self.plan.trials
        )
        return tuple(Ahead(parts=parts) for parts in (anchor + judges, *trials))

    def _ahead_of(self, judge: Judge) -> Iterator[Part]:
        card = self._card(judge)
        if isinstance(judge, Probe) and not card.with_suffix(".safetensors").exists():
            yield Part(what=fitting(judge.name), work=len(self.ground.splits.judge), unit="pairs")
        if not card.exists():
            yield Part(what=qualifying(judge.name), work=len(self.ground.held_out), unit="pairs")

    @functools.cached_property
    def anchor(self) -> LanguageModel:
        """The anchor, ready to measure with."""
        return self._model(self.plan.anchor)

    @functools.cached_property
    def anchor_evidence(self) -> Evidence:
        """What every trial is scored against."""
        folder, limit = self.folder / "anchor", self.bench.asked.max_new_tokens
        return Evidence(
            completions=self._once(
                folder / "completions.jsonl",
                Completion,
                lambda: complete(self.anchor, self.ground.held_out, limit=limit),
            ),
            samples=(),
            pairs=self._once(
                folder / "pairs.jsonl", PairLogp, lambda: measure_pairs(self.anchor, self.ground.labelled)
            ),
        )

    def _model(self, node: TrainNode) -> LanguageModel:
        return LanguageModel.of(self.engine.decoder(node), self.ground.tokens, self.dtype)

    def _measure_anchor(self) -> None:
        folder = self.folder / "anchor"
        self.journal.begin("anchor and judges")
        if not self._anchor_is_done():
            store.write_jsonl(folder / "train.jsonl", self.engine.train(self.plan.anchor).steps)
            mine = self.anchor_evidence
            scores = score_trial("anchor", 0, mine, mine, self.ground.golds, self.ground.tokens)
            store.write_json(folder / "scores.json", scores)

    def _anchor_is_done(self) -> bool:
        return all((self.folder / "anchor" / name).exists() for name in ANCHOR_FILES)

    def _qualify(self, judge: Judge) -> None:
        """Fit the judge if it needs fitting, and measure it on held-out labelled pairs before it is believed."""
        card = self._card(judge)
        if isinstance(judge, Probe):
            self._fit(judge, card.with_suffix(".safetensors"))
        if not card.exists():
            self.journal.phase(qualifying(judge.name))
            pairs = self.ground.labelled[: len(self.ground.held_out)]
            store.write_json(card, qualify(judge, pairs, seed=0))

    def _card(self, judge: Judge) -> Path:
        return self.folder / "judges" / f"{_file_name(judge.name)}.json"

    def _fit(self, probe: Probe, path: Path) -> None:
        if path.exists():
            probe.restore(path)
            return
        self.journal.phase(fitting(probe.name))
        probe.fit(self.ground.splits.judge, seed=0)
        store.write_atomically(path, probe.save)

    def _attempt(self, trial: Trial) -> None:
        """Run a trial; one that fails is noted, and the others go on."""
        self.journal.begin(trial.name)
        if self._is_done(trial):
            self.journal.done("already done")
            return
        try:
            self.journal.done(self._headline(self._run_trial(trial)))
        except (HarnessError, ModelError) as error:
            self.failed[trial.name] = str(error)
        except (Exception, SystemExit) as error:  # a stranger's recipe may fail in any way, at no other trial's cost
            path = self._trial_folder(trial) / "error.txt"
            store.write_text(path, visible(traceback.format_exc()))
            where = path.relative_to(self.folder).as_posix()
            self.failed[trial.name] = visible(f"{type(error).__name__}: {error} (its traceback is in {where})")
        if trial.name in self.failed:
            self.journal.failed(f"failed: {self.failed[trial.name]}")

    def _headline(self, scores: TrialScores) -> str:
        """A finished trial in one line: its win rate by the data's check and by each judge, doubts said."""
        shown = scores.scores
        parts = [f"reward accuracy {shown['reward_accuracy'].value:.0%}", f"KL {shown['kl_nats'].value:.2f} nats"]
        if "gold_win_rate" in shown:
            parts.append(f"gold win rate {shown['gold_win_rate'].value:.0%}")
        for judge in self.judges:
            card, metric = store.read_json(self._card(judge), JudgeCard), win_rate_by(judge.name)
            if metric in shown:
                doubt = "" if card.qualified else " (not qualified)"
                parts.append(f"win rate {shown[metric].value:.0%} by {judge.name}{doubt}")
        return ", ".join(parts)

    def _run_trial(self, trial: Trial) -> TrialScores:
        """Train the trial, then measure it; scores.json comes last, so that it being there means done."""
        folder = self._trial_folder(trial)
        (folder / "error.txt").unlink(missing_ok=True)
        trained = [self.engine.train(node) for node in trial.nodes]
        store.write_jsonl(folder / "train.jsonl", [step for stage in trained for step in stage.steps])
        ledger = trial_ledger(trial, self.plan.trials, self.engine, self.resolved)
        store.write_json(folder / "ledger.json", ledger)
        scores = score_trial(
            trial.choice.name,
            trial.seed,
            self._evidence(trial, folder),
            self.anchor_evidence,
            self.ground.golds,
            self.ground.tokens,
        )
        store.write_json(folder / "scores.json", scores)
        return scores

    def _evidence(self, trial: Trial, folder: Path) -> Evidence:
        """What the trial's checkpoint writes, the log-probs it gives, and what the judges say of it."""
        policy = functools.cache(lambda: self._model(trial.nodes[-1]))
        prompts, limit = self.ground.held_out, self.bench.asked.max_new_tokens

        def samples() -> Sequence[Sample]:
            written = sample(policy(), prompts, limit=limit, seed=SAMPLE_SEED + trial.seed)
            return measure_samples(policy(), self.anchor, prompts, written)

        completions = self._once(
            folder / "completions.jsonl", Completion, lambda: complete(policy(), prompts, limit=limit)
        )
        return Evidence(
            completions=completions,
            samples=self._once(folder / "samples.jsonl", Sample, samples),
            pairs=self._once(folder / "pairs.jsonl", PairLogp, lambda: measure_pairs(policy(), self.ground.labelled)),
            verdicts=self._once(
                folder / "verdicts.jsonl",
                Verdict,
                lambda: judge_completions(self.judges, prompts, completions, self.anchor_evidence.completions),
            ),
        )

    def _once(self, path: Path, kind: type[R], make: Callable[[], Sequence[R]]) -> tuple[R, ...]:
        """The records in the file, made first if it is not there."""
        if not path.exists():
            self.journal.phase(DOING[path.name])
            store.write_jsonl(path, make())
        return store.read_jsonl(path, kind)

    def _scores(self) -> dict[str, TrialScores]:
        """Trial → its scores, for those that have any. With one seed a trial goes by its recipe's name."""
        done = [trial for trial in self.plan.trials if self._is_done(trial)]
        names = {t.name: t.choice.name if self.bench.asked.seeds == 1 else t.name for t in done}
        return {names[t.name]: store.read_json(self._trial_folder(t) / "scores.json", TrialScores) for t in done}

    def _write_records(self) -> None:
        """What the report needs to know of the bench and of each held-out prompt."""
        choices = {trial.choice.name: trial.choice for trial in self.plan.trials}.values()
        names = [judge.name for judge in self.judges]
        record = describe(self.bench, self.ground, list(choices), names, self.failed)
        store.write_json(self.folder / "record.json", record)
        store.write_jsonl(self.folder / "prompts.jsonl", self.ground.prompts)

    def _trial_folder(self, trial: Trial) -> Path:
        return self.folder / "trials" / trial.name

    def _is_done(self, trial: Trial) -> bool:
        return all((self._trial_folder(trial) / name).exists() for name in TRIAL_FILES)


# What is done with scores, in evals: it measures nothing.
_AFTERWARDS = {"comparison.py", "drop.py", "gate.py", "joining.py", "likeness.py"}


@functools.cache
def measuring_digest() -> str:
    """Of the code that measures, and of what it stands on: scores made by other code are not these."""
    packages = (Path(str(package.__file__)).parent for package in (evals, models, harness.data))
    files = [file for folder in packages for file in sorted(folder.rglob("*.py")) if file.name not in _AFTERWARDS]
    return store.digest(
        [(f.name, store.file_digest(f)) for f in (*files, Path(harness.ground.__file__), Path(__file__))]
    )


def _file_name(judge: str) -> str:
    """A judge's name as a file's: `rule_gold`; of a path what is left of it, and a digest."""
    plain = judge.replace(":", "_")
    kept = re.sub(r"[^\w.=-]+", "_", plain)[-60:]
    return kept if kept == plain else f"{kept}-{store.digest(judge)[:6]}"
