"""The conductor: from what was asked to a report, one file after another, none made twice.

data → stages → checkpoint → completions → verdicts → scores → report. Everything a user can get wrong is checked before
anything is written.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from evals.completions import complete, sample
from evals.divergence import measure_samples
from evals.judges.probe import Probe
from evals.judges.protocol import Judge, Question, ask_both_orders
from evals.judges.qualification import qualify
from evals.judges.registry import make_judge
from evals.rewards import measure_pairs
from evals.score import Evidence, score_trial
from evals.statistics import compare_all
from harness import cache, store
from harness.data.rows import DataSet, load_pairs
from harness.data.splits import split_pairs
from harness.engines.graph import TrainNode, code_digest, stage_nodes
from harness.engines.local import LocalEngine, load_policy
from harness.errors import HarnessError
from harness.progress import Watch
from harness.recipes.registry import Choice, choose
from harness.recipes.sft import ANCHOR
from harness.records import (
    BenchRecord,
    Comparison,
    Completion,
    Gold,
    HeldOutPrompt,
    Ledger,
    Pair,
    PairLogp,
    Sample,
    Splits,
    TrialScores,
    Verdict,
)
from harness.settings import Asked, BenchFile, Resolved, refuse_another
from harness.training.budget import FLOPS_PER_BYTE, Budget, parse_budget
from harness.training.machine import calibrate, choose_device, choose_dtype
from harness.training.plan import Terms
from harness.training.train import Settings
from models.decoder import Decoder
from models.language_model import LanguageModel, make_row
from models.sources import ModelSource, find_model
from models.tokens import Tokens
from reports.build import build_report

MICRO_BATCH_TOKENS = 2048
SAMPLE_SEED = 20_260_000  # of the draws that all checkpoints sample with
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What every trial of a bench stands on: model, tokens, data, and the terms that plans are made on."""

    source: ModelSource
    model: Decoder  # float32, never trained
    tokens: Tokens
    dataset: DataSet
    splits: Splits
    held_out: tuple[Pair, ...]  # one a prompt: what is completed and judged
    labelled: tuple[Pair, ...]  # all pairs of those prompts
    terms: Terms
    device: torch.device

    @property
    def golds(self) -> dict[str, Gold]:
        """prompt_id → gold, if the data knows the truth of every held-out prompt; else empty."""
        known = {pair.prompt_id: pair.gold for pair in self.held_out if pair.gold is not None}
        return known if len(known) == len(self.held_out) else {}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One recipe with one seed, and the nodes that make its checkpoint."""

    choice: Choice
    seed: int
    nodes: tuple[TrainNode, ...]

    @property
    def name(self) -> str:
        return f"{self.choice.name}@{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run came to."""

    folder: Path
    report: Path
    failed: dict[str, str]  # trial → why


def run_bench(wanted: BenchFile, folder: Path, say: Say, make_watch: Callable[[int], Watch]) -> Outcome:
    """Run, or go on with, a bench in its folder. HarnessError for what the user can mend, before anything is written."""
    held = refuse_another(folder, wanted)
    asked = wanted.asked
    parse_budget(asked.budget)
    choices = choose(asked.recipes)
    root = cache.cache_root()
    ground = lay_ground(asked, root, say)
    judges = [_judge(spec, ground, root, say) for spec in asked.judges]
    bench = _resolved(held or wanted, ground, say)
    trials = plan_trials(bench, ground, choices)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            bench.write(folder / "bench.toml")
            with make_watch(len(trials) + 1) as watch:
                return _Conductor(bench, ground, trials, judges, folder, root, watch).run()
    except Timeout as error:
        raise HarnessError(f"another run is at work in {folder}: wait for it, or choose another --out") from error


def lay_ground(asked: Asked, root: Path, say: Say) -> Ground:
    """Fetch and read the model and the data, and check that they fit each other."""
    device = choose_device()
    source = find_model(asked.model, root, say)
    model, tokens = source.load()
    dataset = load_pairs(asked.data, asked.template, render_chat=tokens.render_chat, cache_dir=root)
    for warning in dataset.warnings:
        say(warning)
    splits = split_pairs(dataset)
    held_out = tuple({pair.prompt_id: pair for pair in reversed(splits.test)}.values())[::-1]
    held_out = held_out[: asked.eval_prompts]
    shown = {pair.prompt_id for pair in held_out}
    terms = _terms(model, tokens, splits, asked)
    _refuse_too_long(model.architecture.context, tokens, splits, asked.max_new_tokens)
    return Ground(
        source=source,
        model=model.to(device),
        tokens=tokens,
        dataset=dataset,
        splits=splits,
        held_out=held_out,
        labelled=tuple(pair for pair in splits.test if pair.prompt_id in shown),
        terms=terms,
        device=device,
    )


def _terms(model: Decoder, tokens: Tokens, splits: Splits, asked: Asked) -> Terms:
    return Terms(
        architecture=model.architecture,
        weights=sum(p.numel() for p in model.parameters()),
        pair_rows=[make_row(tokens, p.prompt, (p.chosen, p.rejected)) for p in splits.train],
        chosen_rows=[make_row(tokens, p.prompt, (p.chosen,)) for p in splits.train],
        batch_pairs=asked.batch_pairs,
        flops_per_byte=FLOPS_PER_BYTE,
    )


def _refuse_too_long(context: int, tokens: Tokens, splits: Splits, new_tokens: int) -> None:
    for pair in (*splits.train, *splits.judge, *splits.test):
        row = make_row(tokens, pair.prompt, (pair.chosen, pair.rejected))
        longest = len(row.prompt) + max(*(len(y) for y in row.responses), new_tokens)
        if longest > context:
            raise HarnessError(
                f"the prompt {pair.question[:60]!r}… takes {longest:,} tokens with its response, and the model's context "
                f"is {context:,}: drop or shorten that row, or choose a model with a longer context"
            )


def _judge(spec: str, ground: Ground, root: Path, say: Say) -> Judge:
    """The judge, its server asked already; a probe is fitted when it is first needed."""

    def make_probe(source: str | None) -> Judge:
        if source is None:
            source = "smollm2-135m"
        found = ground.source if source == ground.source.name else find_model(source, root, say)
        model, tokens = (ground.model, ground.tokens) if found == ground.source else found.load()
        dtype = choose_dtype(model.architecture, ground.device)
        return Probe(LanguageModel.of(model.to(ground.device), tokens, dtype), found.name, name=spec)

    if spec == "rule:gold" and not ground.golds:
        raise HarnessError(f"judge 'rule:gold' needs data that knows the truth, and {ground.dataset.name!r} does not: --judge probe")
    return make_judge(spec, make_probe=make_probe)


def _resolved(bench: BenchFile, ground: Ground, say: Say) -> BenchFile:
    """The bench with its budget in FLOPs and all that its numbers hang on; as it stands, if it was resolved before."""
    found = {"model": ground.source.digest, "data": ground.dataset.digest}
    if bench.resolved is not None:
        expected = {"model": bench.resolved.model_digest, "data": bench.resolved.data_digest}
        for name, digest in found.items():
            if digest != expected[name]:
                raise HarnessError(
                    f"{name} {getattr(bench.asked, name)!r} is not what this bench was made with (sha256 "
                    f"{digest[:12]}…, not {expected[name][:12]}…): bring that one, or start another bench"
                )
        if bench.resolved.threads != torch.get_num_threads():
            torch.set_num_threads(bench.resolved.threads)
        return bench
    dtype = choose_dtype(ground.model.architecture, ground.device)
    settings = Settings(dtype=dtype, micro_batch_tokens=MICRO_BATCH_TOKENS)
    resolved = Resolved(
        model_digest=found["model"],
        data_digest=found["data"],
        dtype=str(dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        micro_batch_tokens=MICRO_BATCH_TOKENS,
        **_budget(bench.asked.budget, ground, settings, say),
    )
    return BenchFile(asked=bench.asked, resolved=resolved)


def _budget(text: str, ground: Ground, settings: Settings, say: Say) -> dict[str, Any]:
    """The budget's fields in `Resolved`. Seconds become FLOPs here, once, by timing real steps."""
    wanted = parse_budget(text)
    if wanted.unit == "flops":
        return {"budget_flops": wanted.amount, "flops_per_byte": FLOPS_PER_BYTE}
    if wanted.unit == "seconds":
        say(f"calibrating: how many FLOPs are {text} on this machine?")
        policy = load_fresh(ground)
        speed = calibrate(policy, ground.terms, ANCHOR, settings)
        say(f"{speed.flops_per_second / 1e9:.0f} GFLOP/s: the budget is {wanted.amount * speed.flops_per_second / 1e12:.3g} TFLOP a trial")
        return {
            "budget_flops": float(round(wanted.amount * speed.flops_per_second)),
            "flops_per_second": float(round(speed.flops_per_second)),
            "flops_per_byte": round(speed.flops_per_byte, 2),
        }
    pairs = wanted.amount * (len(ground.splits.train) if wanted.unit == "epochs" else 1)
    return {"budget_pairs": max(1, round(pairs)), "flops_per_byte": FLOPS_PER_BYTE}


def load_fresh(ground: Ground) -> Decoder:
    """A copy of the model's own weights to train."""
    return copy.deepcopy(ground.model)


def plan_trials(bench: BenchFile, ground: Ground, choices: Sequence[Choice]) -> tuple[Trial, ...]:
    """Every recipe with every seed, each planned to its last step."""
    assert bench.resolved is not None
    made, terms = ground_digest(bench, ground), _final_terms(bench, ground)
    budget = Budget(flops=bench.resolved.budget_flops, pairs=bench.resolved.budget_pairs)
    return tuple(
        Trial(choice=choice, seed=seed, nodes=stage_nodes(terms, made, choice.stages, budget, seed))
        for seed in range(bench.asked.seeds)
        for choice in choices
    )


def _final_terms(bench: BenchFile, ground: Ground) -> Terms:
    assert bench.resolved is not None
    return dataclasses.replace(ground.terms, flops_per_byte=bench.resolved.flops_per_byte)


def ground_digest(bench: BenchFile, ground: Ground) -> str:
    """Of everything besides its plan that a checkpoint hangs on."""
    assert bench.resolved is not None
    r = bench.resolved
    return store.digest(
        r.model_digest, r.data_digest, ground.dataset.template, r.dtype, r.threads, r.micro_batch_tokens, code_digest()
    )


class _Conductor:
    """Carries a planned bench out in its folder."""

    def __init__(
        self,
        bench: BenchFile,
        ground: Ground,
        trials: tuple[Trial, ...],
        judges: list[Judge],
        folder: Path,
        root: Path,
        watch: Watch,
    ) -> None:
        assert bench.resolved is not None
        self.bench, self.ground, self.trials, self.judges = bench, ground, trials, judges
        self.folder, self.root, self.watch = folder, root, watch
        self.dtype = getattr(torch, bench.resolved.dtype)
        self.engine = LocalEngine(
            cache=root,
            terms=_final_terms(bench, ground),
            settings=Settings(dtype=self.dtype, micro_batch_tokens=bench.resolved.micro_batch_tokens),
            fresh=lambda: load_fresh(ground),
            device=ground.device,
            on_stage=lambda node: watch.phase(f"training, {node.stage.objective.name}"),
            on_step=watch.step,
        )
        budget = Budget(flops=bench.resolved.budget_flops, pairs=bench.resolved.budget_pairs)
        made = ground_digest(bench, ground)
        (self.anchor_node,) = stage_nodes(self.engine.terms, made, (ANCHOR,), budget, seed=0)
        self.failed: dict[str, str] = {}

    def run(self) -> Outcome:
        self._write_records()
        self._measure_anchor()
        for judge in self.judges:
            self._qualify(judge)
        for trial in self.trials:
            self._attempt(trial)
        scores = self._scores()
        store.write_json(self.folder / "comparisons.json", self._compare(scores))
        self._write_records()
        cache.prune(self.root)
        return Outcome(folder=self.folder, report=build_report(self.folder), failed=self.failed)

    @functools.cached_property
    def anchor(self) -> LanguageModel:
        """The anchor, ready to measure with."""
        return self._model(self.anchor_node)

    @functools.cached_property
    def anchor_evidence(self) -> Evidence:
        folder = self.folder / "anchor"
        return Evidence(
            completions=store.read_jsonl(folder / "completions.jsonl", Completion),
            samples=(),
            pairs=store.read_jsonl(folder / "pairs.jsonl", PairLogp),
        )

    def _model(self, node: TrainNode) -> LanguageModel:
        policy = load_policy(self.ground.model.architecture, self.engine.train(node).checkpoint, self.ground.device)
        return LanguageModel.of(policy, self.ground.tokens, self.dtype)

    def _measure_anchor(self) -> None:
        """Train the anchor and keep its completions and log-probs: what every trial is scored against."""
        folder = self.folder / "anchor"
        self.watch.begin("anchor")
        if not (folder / "scores.json").exists():
            store.write_jsonl(folder / "train.jsonl", self.engine.train(self.anchor_node).steps)
            limit = self.bench.asked.max_new_tokens
            self._once(folder / "completions.jsonl", "completions", lambda: complete(self.anchor, self.ground.held_out, limit=limit))
            self._once(folder / "pairs.jsonl", "held-out pairs", lambda: measure_pairs(self.anchor, self.ground.labelled))
            mine = self.anchor_evidence
            store.write_json(
                folder / "scores.json", score_trial("anchor", 0, mine, mine, self.ground.golds, self.ground.tokens)
            )
        self.watch.done("done")

    def _qualify(self, judge: Judge) -> None:
        """Fit the judge if it needs fitting, and measure it on held-out labelled pairs before it is believed."""
        path = self.folder / "judges" / f"{_file_name(judge.name)}.json"
        if path.exists() and all((self._trial_folder(t) / "scores.json").exists() for t in self.trials):
            return
        if isinstance(judge, Probe):
            self.watch.phase(f"fitting judge {judge.name}")
            judge.fit(self.ground.splits.judge, seed=0)
        if not path.exists():
            self.watch.phase(f"qualifying judge {judge.name}")
            store.write_json(path, qualify(judge, self.ground.labelled, seed=0))

    def _attempt(self, trial: Trial) -> None:
        """Run a trial; one that fails is noted, and the others go on."""
        self.watch.begin(trial.name)
        if (self._trial_folder(trial) / "scores.json").exists():
            self.watch.done("already done")
            return
        try:
            scores = self._run_trial(trial)
        except HarnessError as error:
            self.failed[trial.name] = str(error)
        except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError) as error:
            # A stranger's recipe may fail in any way; its fault must not cost the other trials.
            self.failed[trial.name] = f"{type(error).__name__}: {error}"
        if trial.name in self.failed:
            self.watch.done(f"failed: {self.failed[trial.name]}")
        else:
            self.watch.done(_headline(scores))

    def _run_trial(self, trial: Trial) -> TrialScores:
        folder, ground, limit = self._trial_folder(trial), self.ground, self.bench.asked.max_new_tokens
        trained = [self.engine.train(node) for node in trial.nodes]
        store.write_jsonl(folder / "train.jsonl", [step for stage in trained for step in stage.steps])
        store.write_json(folder / "ledger.json", self._ledger(trial))
        policy = functools.cache(lambda: self._model(trial.nodes[-1]))
        completions = self._once(
            folder / "completions.jsonl", "completions", lambda: complete(policy(), ground.held_out, limit=limit)
        )
        self._once(folder / "samples.jsonl", "samples and KL", lambda: self._samples(policy(), trial.seed))
        self._once(folder / "pairs.jsonl", "held-out pairs", lambda: measure_pairs(policy(), ground.labelled))
        self._once(folder / "verdicts.jsonl", "judging", lambda: self._verdicts(completions))
        evidence = Evidence(
            completions=store.read_jsonl(folder / "completions.jsonl", Completion),
            samples=store.read_jsonl(folder / "samples.jsonl", Sample),
            pairs=store.read_jsonl(folder / "pairs.jsonl", PairLogp),
            verdicts=store.read_jsonl(folder / "verdicts.jsonl", Verdict),
        )
        scores = score_trial(
            trial.choice.name, trial.seed, evidence, self.anchor_evidence, ground.golds, ground.tokens
        )
        store.write_json(folder / "scores.json", scores)
        return scores

    def _once(self, path: Path, what: str, make: Callable[[], Sequence[Any]]) -> Sequence[Any]:
        """The records in the file, made first if it is not there."""
        if not path.exists():
            self.watch.phase(what)
            store.write_jsonl(path, make())
        return store.read_jsonl(path, _KINDS[path.name])

    def _samples(self, policy: LanguageModel, seed: int) -> tuple[Sample, ...]:
        prompts, limit = self.ground.held_out, self.bench.asked.max_new_tokens
        written = sample(policy, prompts, limit=limit, seed=SAMPLE_SEED + seed)
        return measure_samples(policy, self.anchor, prompts, written)

    def _verdicts(self, completions: Sequence[Completion]) -> list[Verdict]:
        """Every judge's verdict on each completion against the anchor's, both orders."""
        questions = [
            Question(
                prompt_id=pair.prompt_id, question=pair.question, first=mine.text, second=theirs.text, gold=pair.gold
            )
            for pair, mine, theirs in zip(
                self.ground.held_out, completions, self.anchor_evidence.completions, strict=True
            )
        ]
        return [verdict for judge in self.judges for verdict in ask_both_orders(judge, questions)]

    def _ledger(self, trial: Trial) -> Ledger:
        """The trial's stages as if alone, and what it shared with others."""
        users = Counter(node.digest for t in self.trials for node in t.nodes)
        users.update(node.reference.digest for t in self.trials for node in t.nodes if node.reference)
        stages = tuple(self.engine.train(node).ledger for node in trial.nodes)
        flops, seconds = 0.0, 0.0
        for node, stage in zip(trial.nodes, stages, strict=True):
            if users[node.digest] > 1:
                flops, seconds = flops + stage.flops, seconds + stage.device_seconds
            elif node.reference is not None and users[node.reference.digest] > 1:
                flops += stage.reference_flops
                seconds += self.engine.reference(node.reference).seconds
        assert self.bench.resolved is not None
        return Ledger(
            stages=stages,
            budget_flops=self.bench.resolved.budget_flops,
            budget_pairs=self.bench.resolved.budget_pairs,
            shared_flops=flops,
            shared_seconds=seconds,
        )

    def _scores(self) -> dict[str, TrialScores]:
        """Trial → its scores, for the trials that have any. With one seed a trial goes by its recipe's name."""
        found: dict[str, TrialScores] = {}
        for trial in self.trials:
            path = self._trial_folder(trial) / "scores.json"
            if path.exists():
                name = trial.choice.name if self.bench.asked.seeds == 1 else trial.name
                found[name] = store.read_json(path, TrialScores)
        return found

    def _compare(self, scores: dict[str, TrialScores]) -> list[Comparison]:
        """All pairs of trials on each metric that can decide, and on what it costs."""
        wanted = ["gold_win_rate", *(f"win_rate[{judge.name}]" for judge in self.judges)]
        found: list[Comparison] = []
        for metric in [*wanted, "kl_nats", "reward_accuracy"]:
            values = {name: s.per_prompt[metric] for name, s in scores.items() if metric in s.per_prompt}
            found += compare_all(values, metric=metric)
        return found

    def _write_records(self) -> None:
        """What the report needs to know of the bench, and of each held-out prompt."""
        store.write_json(self.folder / "record.json", self._record())
        prompts = [
            HeldOutPrompt(prompt_id=p.prompt_id, question=p.question, chosen=p.chosen, gold=p.gold)
            for p in self.ground.held_out
        ]
        store.write_jsonl(self.folder / "prompts.jsonl", prompts)

    def _record(self) -> BenchRecord:
        asked, resolved, ground = self.bench.asked, self.bench.resolved, self.ground
        assert resolved is not None
        choices = {trial.choice.name: trial.choice for trial in self.trials}
        return BenchRecord(
            model=ground.source.name,
            model_digest=resolved.model_digest,
            model_note=ground.source.note,
            data=asked.data,
            data_digest=resolved.data_digest,
            data_notes=ground.dataset.warnings,
            template=ground.dataset.template,
            rows={name: len(getattr(ground.splits, name)) for name in ("train", "judge", "test")},
            budget=asked.budget,
            budget_flops=resolved.budget_flops,
            budget_pairs=resolved.budget_pairs,
            flops_per_second=resolved.flops_per_second,
            eval_prompts=len(ground.held_out),
            judges=tuple(judge.name for judge in self.judges),
            recipes=tuple(choices),
            recipe_summaries={name: choice.summary for name, choice in choices.items()},
            seeds=asked.seeds,
            dtype=resolved.dtype,
            digest=self.bench.digest,
            command="python -m harness run --config bench.toml",
            failed=dict(self.failed),
        )

    def _trial_folder(self, trial: Trial) -> Path:
        return self.folder / "trials" / trial.name


_KINDS: dict[str, type[Any]] = {
    "completions.jsonl": Completion,
    "samples.jsonl": Sample,
    "pairs.jsonl": PairLogp,
    "verdicts.jsonl": Verdict,
}


def _file_name(judge: str) -> str:
    return judge.replace(":", "_").replace("/", "_")


def _headline(scores: TrialScores) -> str:
    """A finished trial in one line."""
    shown = scores.scores
    wins = next((n for n in ("gold_win_rate", *shown) if n in shown and "win_rate" in n), None)
    parts = [f"reward accuracy {shown['reward_accuracy'].value:.0%}", f"KL {shown['kl_nats'].value:.2f} nats"]
    return ", ".join([*parts, *([f"{wins} {shown[wins].value:.0%}"] if wins else [])])
