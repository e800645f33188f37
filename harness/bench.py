"""The conductor: from what was asked to a report, one file after another, none made twice.

data → stages → checkpoint → completions → verdicts → scores → report. Everything a user can get wrong is checked before
anything is written.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from filelock import FileLock, Timeout

from evals.completions import complete, sample
from evals.conclusions import conclude
from evals.divergence import measure_samples
from evals.judges.probe import Probe
from evals.judges.protocol import Judge
from evals.judges.qualification import qualify
from evals.judging import judge_completions
from evals.paths import make_paths
from evals.rewards import measure_pairs
from evals.score import Evidence, score_trial
from evals.waypoints import anchor_itself, score_waypoint
from harness import cache, store
from harness.agenda import DOING, Agenda, fitting, qualifying, training
from harness.described import describe
from harness.engines.graph import TrainNode
from harness.errors import HarnessError
from harness.events import Ahead, Part
from harness.fitting import fit
from harness.ground import Ground, Say, lay_ground
from harness.journal import JOURNAL, Journal
from harness.judging import find_judge, qualifying_pairs
from harness.looks import look_at, next_look, parse_precision
from harness.measuring import measuring_digest
from harness.plain import visible
from harness.progress import Watch
from harness.recipes.registry import choose
from harness.records import (
    Completion,
    JudgeCard,
    Look,
    Pair,
    PairLogp,
    Sample,
    TrialScores,
    Verdict,
    Waypoint,
    win_rate_by,
)
from harness.resolution import resolve, settle_dtype
from harness.settings import BenchFile, Resolved, refuse_another
from harness.training.budget import parse_budget
from harness.training.memory import parse_memory
from harness.trials import BenchPlan, Trial, engine_for, plan_bench, trial_ledger
from harness.way import WAYPOINTS, Way, read_waypoints
from models.failure import ModelError
from models.language_model import LanguageModel
from models.room import Rooms
from reports.build import build_report
from reports.leading import main_contrast
from reports.load import load_run

ANCHOR_FILES = ("train.jsonl", "completions.jsonl", "pairs.jsonl", "scores.json")
TRIAL_FILES = (
    *("train.jsonl", "ledger.json", WAYPOINTS, "completions.jsonl", "samples.jsonl", "pairs.jsonl", "verdicts.jsonl"),
    "scores.json",  # written last
)
LOCK_SECONDS = 1.0  # to wait for a run's folder: who follows a run that was killed takes it for an instant
SAMPLE_SEED = 20_260_000  # of the draws that all checkpoints sample with
LOOKS = "looks.json"
A = TypeVar("A", bound="_OfPrompt")
R = TypeVar("R")


class _OfPrompt(Protocol):
    """A record that belongs to a prompt."""

    @property
    def prompt_id(self) -> str: ...


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
    parse_memory(wanted.asked.memory)
    if wanted.asked.precision:
        parse_precision(wanted.asked.precision)
    choices = choose(wanted.recipes)
    torch.set_num_threads(wanted.resolved.threads if wanted.resolved else torch.get_num_threads())
    root = cache.cache_root()
    ground = lay_ground(wanted.asked, root, say)
    dtype = settle_dtype(wanted, ground.device)
    rooms = Rooms.telling(say)
    judges = [find_judge(spec, ground, dtype, root, say, rooms) for spec in wanted.asked.judges]
    sizes = fit(wanted.asked, ground, choices, dtype)
    bench = resolve(wanted, ground, choices, [judge.description for judge in judges], dtype, sizes, say)
    assert bench.resolved is not None
    tokens = sizes.within(bench.resolved.micro_batch_tokens, say)
    sizes.narrow(rooms)
    plan = plan_bench(bench.resolved, ground, choices, bench.seeds)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=LOCK_SECONDS):
            refuse_another(folder, bench)  # again, now that no other run can begin here
            bench.write(folder / "bench.toml")
            with Journal(folder / JOURNAL, make_watch()) as journal:
                rooms.tell(journal.say)
                return _Conductor(
                    bench, bench.resolved, ground, plan, judges, folder, root, journal, rooms, tokens
                ).run()
    except Timeout as error:
        raise HarnessError(f"another run is at work in {folder}: wait for it, or choose another --out") from error


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
        rooms: Rooms,
        micro_batch_tokens: int,
    ) -> None:
        self.rooms = rooms
        self.bench, self.resolved, self.ground, self.plan, self.judges = bench, resolved, ground, plan, judges
        self.folder, self.root, self.journal = folder, root, journal
        self.dtype: torch.dtype = getattr(torch, resolved.dtype)
        self.engine = engine_for(
            plan,
            resolved,
            ground,
            root,
            on_stage=lambda node: journal.phase(training(node)),
            on_step=journal.step,
            tell=journal.say,
            micro_batch_tokens=micro_batch_tokens,
        )
        self.way = Way(
            engine=self.engine,
            ground=ground,
            dtype=self.dtype,
            limit=bench.asked.max_new_tokens,
            seed=SAMPLE_SEED,
            stamp=store.digest(plan.anchor.digest, measuring_digest()),
            anchor=lambda: self.anchor,
            on_look=lambda: journal.phase(DOING[WAYPOINTS]),
            rooms=rooms,
        )
        self.failed: dict[str, str] = {}

    def run(self) -> Outcome:
        self.journal.say(self.ground.dataset.reading)
        if self.resolved.budget_pairs is not None:
            self.journal.say(
                "a budget in pairs gives recipes that cost more a pair more compute; time and FLOPs do not"
            )
        self._set_stale_aside()
        looks = store.read_json(self.folder / LOOKS, tuple[Look, ...]) if (self.folder / LOOKS).exists() else ()
        if looks:
            self._widen(looks[-1].prompts)
        self._measure()
        while (prompts := self._next_look()) is not None:
            self._widen(prompts)
            self._measure()
        report = build_report(self.folder)
        cache.prune(self.root)
        return Outcome(folder=self.folder, report=report, failed=self.failed)

    def _measure(self) -> None:
        """Everything that the held-out prompts ask for, and what follows from it."""
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
        scores = self._scores()
        self._conclude(scores)
        trials = self.folder / "trials"
        waypoints = {name: read_waypoints(trials / f"{s.recipe}@{s.seed}") for name, s in scores.items()}
        store.write_json(self.folder / "paths.json", make_paths(scores, waypoints))
        self._write_records()

    def _next_look(self) -> int | None:
        """How many prompts to answer next; None where the main contrast is as precise as asked, or none are left."""
        contrast = main_contrast(load_run(self.folder)) if self.bench.asked.precision else None
        if contrast is None:
            return None
        path, now = self.folder / LOOKS, look_at(contrast, len(self.ground.held_out))
        before = store.read_json(path, tuple[Look, ...]) if path.exists() else ()
        store.write_json(path, (*(look for look in before if look.prompts < now.prompts), now))
        wanted = parse_precision(self.bench.asked.precision)
        more = next_look(now.prompts, len(self.ground.askable)) if now.half_width > wanted else None
        told = f"{now.a} against {now.b} is known to ±{100 * now.half_width:.1f} points on {now.prompts:,} prompts"
        if more is not None:
            self.journal.say(f"{told}: going on to {more:,}")
        elif now.half_width > wanted:
            self.journal.say(f"{told}, and there are no more to ask")
        else:
            self.journal.say(f"{told}: enough")
        return more

    def _widen(self, prompts: int) -> None:
        """Answer so many prompts from now on: what was answered stays, and the scores are made again."""
        self.ground = self.ground.widened(prompts)
        self.__dict__.pop("anchor_evidence", None)

    def _conclude(self, scores: dict[str, TrialScores]) -> None:
        """Write what follows from all trials together."""
        cards = [store.read_json(self._card(judge), JudgeCard) for judge in self.judges]
        found = conclude(cards, scores, store.read_json(self.folder / "anchor" / "scores.json", TrialScores))
        for field in dataclasses.fields(found):
            store.write_json(self.folder / f"{field.name}.json", getattr(found, field.name))

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
        sizes = {"prompts": len(ground.held_out), "pairs": len(ground.labelled), "few": len(self.way.few.prompts)}
        agenda = Agenda(self.root, **sizes, judges=len(self.judges))
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
            completions=self._answered(
                folder / "completions.jsonl",
                Completion,
                lambda prompts: complete(self.anchor, prompts, limit=limit),
            ),
            samples=(),
            pairs=self._once(
                folder / "pairs.jsonl", PairLogp, lambda: measure_pairs(self.anchor, self.ground.labelled)
            ),
        )

    def _model(self, node: TrainNode) -> LanguageModel:
        return LanguageModel.of(self.engine.decoder(node), self.ground.tokens, self.dtype, self.rooms)

    def _measure_anchor(self) -> None:
        folder = self.folder / "anchor"
        self.journal.begin("anchor and judges")
        if not self._anchor_is_done():
            store.write_jsonl(folder / "train.jsonl", self.engine.train(self.plan.anchor).steps)
            mine = self.anchor_evidence
            scores = score_trial("anchor", 0, mine, mine, self.ground.golds, self.ground.tokens)
            store.write_json(folder / "scores.json", scores)

    def _anchor_is_done(self) -> bool:
        return self._holds(self.folder / "anchor", ANCHOR_FILES)

    def _holds(self, folder: Path, names: Sequence[str]) -> bool:
        """Whether all files are there, and scores of every prompt that is asked now."""
        if not all((folder / name).exists() for name in names):
            return False
        answered = store.read_json(folder / "scores.json", TrialScores).per_prompt["length_tokens"]
        return len(answered) == len(self.ground.held_out)

    def _qualify(self, judge: Judge) -> None:
        """Fit the judge if it needs fitting, and measure it on held-out labelled pairs before it is believed."""
        card = self._card(judge)
        if isinstance(judge, Probe):
            self._fit(judge, card.with_suffix(".safetensors"))
        if not card.exists():
            self.journal.phase(qualifying(judge.name))
            store.write_json(card, qualify(judge, qualifying_pairs(self.ground), seed=0))

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
        *earlier, last = trial.nodes
        trained = [self.engine.train(node) for node in earlier]
        trained.append(self.engine.train(last, midway=self.way.is_ahead(last, trial.seed, folder)))
        store.write_jsonl(folder / "train.jsonl", [step for stage in trained for step in stage.steps])
        ledger = trial_ledger(trial, self.plan.trials, self.engine, self.resolved)
        store.write_json(folder / "ledger.json", ledger)
        if not (folder / WAYPOINTS).exists():
            store.write_jsonl(folder / WAYPOINTS, self._waypoints(trial))
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
        limit = self.bench.asked.max_new_tokens

        def samples() -> Sequence[Sample]:
            prompts = self.ground.held_out[: self.bench.asked.eval_prompts]
            written = sample(policy(), prompts, limit=limit, seed=SAMPLE_SEED + trial.seed)
            return measure_samples(policy(), self.anchor, prompts, written)

        completions = self._answered(
            folder / "completions.jsonl", Completion, lambda prompts: complete(policy(), prompts, limit=limit)
        )
        return Evidence(
            completions=completions,
            samples=self._once(folder / "samples.jsonl", Sample, samples),
            pairs=self._once(folder / "pairs.jsonl", PairLogp, lambda: measure_pairs(policy(), self.ground.labelled)),
            verdicts=self._answered(
                folder / "verdicts.jsonl", Verdict, lambda prompts: self._judge(prompts, completions)
            ),
        )

    def _judge(self, prompts: Sequence[Pair], completions: Sequence[Completion]) -> list[Verdict]:
        """What the judges say of the answers to these prompts, against the anchor's and against the chosen ones."""
        asked = {prompt.prompt_id for prompt in prompts}
        mine = [c for c in completions if c.prompt_id in asked]
        theirs = [c for c in self.anchor_evidence.completions if c.prompt_id in asked]
        return judge_completions(self.judges, prompts, mine, theirs, chosen=True)

    def _waypoints(self, trial: Trial) -> list[Waypoint]:
        """The checkpoints on the way, scored; before them the anchor, where the last stage begins with it."""
        ground, node = self.ground, trial.nodes[-1]
        found = [
            score_waypoint(seen, self.anchor_evidence, self.way.few, self.judges, ground.golds, ground.tokens)
            for seen in self.way.see(node, trial.seed)
        ]
        begins_there = node.parent is not None and node.parent.digest == self.plan.anchor.digest
        return [anchor_itself(found[0]), *found] if found and begins_there else found

    def _answered(self, path: Path, kind: type[A], make: Callable[[Sequence[Pair]], Sequence[A]]) -> tuple[A, ...]:
        """The records of the prompts that are asked now; what the file lacks of them is made and added to it first."""
        kept = store.read_jsonl(path, kind) if path.exists() else ()
        there = {record.prompt_id for record in kept}
        missing = [prompt for prompt in self.ground.held_out if prompt.prompt_id not in there]
        if missing:
            self.journal.phase(DOING[path.name])
            store.write_jsonl(path, [*kept, *make(missing)])
        # A session that was cut off while it added prompts may have left answers to more of them than are asked now.
        asked = {prompt.prompt_id for prompt in self.ground.held_out}
        return tuple(record for record in store.read_jsonl(path, kind) if record.prompt_id in asked)

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
        return self._holds(self._trial_folder(trial), TRIAL_FILES)


def _file_name(judge: str) -> str:
    """A judge's name as a file's: `rule_gold`; of a path what is left of it, and a digest."""
    plain = judge.replace(":", "_")
    kept = re.sub(r"[^\w.=-]+", "_", plain)[-60:]
    return kept if kept == plain else f"{kept}-{store.digest(judge)[:6]}"
