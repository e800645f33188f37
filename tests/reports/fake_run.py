"""A run's folder with made-up but plausible numbers, written as the bench writes it."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from dataclasses import dataclass, field
from pathlib import Path

from harness.records import (
    Agreement,
    BenchRecord,
    Comparison,
    Completion,
    Contrast,
    Gold,
    HeldOutPrompt,
    JudgeCard,
    Ledger,
    MatchedKl,
    PairLogp,
    PathPoint,
    ReliabilityBin,
    Sample,
    Score,
    StageLedger,
    TrainStep,
    TrialPath,
    TrialScores,
    Verdict,
)
from harness.store import write_json, write_jsonl

OPENING = "I'd be happy to"


@dataclass(frozen=True, kw_only=True)
class Character:
    """What one trial is made to look like."""

    recipe: str
    judged: float = 0.6  # win rate by the judge
    gold: float | None = 0.6
    kl: float = 6.0
    accuracy: float = 0.74
    margin: float = 4.0
    chosen_shift: float = 0.8
    correct_change: float | None = 0.02
    length_ratio: float = 1.05
    opening: str = "The"
    opening_share: float = 0.08
    repetition: float = 0.03
    seconds: float = 50.0
    text: str | None = None  # every completion, where it matters what it says


CORE = (
    Character(recipe="sft", judged=0.55, gold=0.54, kl=2.1, accuracy=0.56, margin=0.3, correct_change=0.04),
    Character(recipe="dpo-beta0.05", judged=0.74, gold=0.69, kl=9.8, accuracy=0.77, margin=9.1),
    Character(recipe="dpo-beta0.1", judged=0.76, gold=0.72, kl=7.4, accuracy=0.79, margin=7.2),
    Character(recipe="dpo-beta0.3", judged=0.71, gold=0.68, kl=4.6, accuracy=0.76, margin=4.4),
    Character(recipe="dpo-beta0.5", judged=0.66, gold=0.63, kl=3.3, accuracy=0.74, margin=3.1),
    Character(recipe="dpo-soft-reference", judged=0.72, gold=0.67, kl=8.1, accuracy=0.75, margin=6.0),
    Character(recipe="dpo-hard-reference", judged=0.70, gold=0.66, kl=8.9, accuracy=0.74, margin=6.3),
)


@dataclass(frozen=True, kw_only=True)
class FakeRun:
    """A whole run to be written; every knob has a plausible default."""

    characters: tuple[Character, ...] = CORE
    prompts: int = 128
    qualified: bool = True
    judges: tuple[str, ...] = ("probe",)
    significant: float = 0.15  # differences of win rates from here on are told apart
    failed: dict[str, str] = field(default_factory=dict)
    unfinished: tuple[str, ...] = ()
    questions: dict[int, str] = field(default_factory=dict)  # by place, instead of the plain ones
    drop: tuple[str, ...] = ()  # scores left out of every trial
    budget_pairs: int | None = None
    anchor_text: str | None = None  # every completion of the anchor, where it matters
    ways: bool = False  # trials have paths from the anchor to their ends
    chatter: int = 0  # words more in every completion, no two alike: a page as large as a real one

    @property
    def has_gold(self) -> bool:
        return bool(self.characters) and self.characters[0].gold is not None


def write_run(folder: Path, run: FakeRun | None = None) -> Path:
    """Write the folder and give it back."""
    run = run or FakeRun()
    write_json(folder / "record.json", _bench(run))
    write_jsonl(folder / "prompts.jsonl", _prompts(run))
    write_jsonl(folder / "anchor" / "completions.jsonl", _completions(run, None))
    write_jsonl(folder / "anchor" / "train.jsonl", _sft_steps(24, "anchor"))
    for name in run.judges:
        write_json(folder / "judges" / f"{name.replace(':', '_')}.json", _card(name, run.qualified))
    for character in run.characters:
        _write_trial(folder / "trials" / f"{character.recipe}@1", run, character)
    for name in run.unfinished:
        write_jsonl(folder / "trials" / name / "train.jsonl", _sft_steps(3, name))
    write_json(folder / "comparisons.json", _comparisons(run))
    write_json(folder / "agreements.json", _agreements(run))
    if run.ways:
        write_json(folder / "paths.json", [_path(run, c, metric) for metric in _WAY_METRICS for c in run.characters])
    return folder


_WAY_METRICS = ("reward_accuracy", "gold_win_rate")


def _path(run: FakeRun, c: Character, metric: str) -> TrialPath:
    """A straight line from the anchor, whose points are at equal KL apart; matched at 1 and 4 nats."""
    end = c.accuracy if metric == "reward_accuracy" else c.gold or 0.5

    def at(share: float, n: int = 12) -> PathPoint:
        value = score(0.5 + share * (end - 0.5), n, sd=share)
        return PathPoint(spent=share, kl=score(share * c.kl, n, "nats", sd=share * c.kl / 3), value=value)

    points = tuple(at(share) for share in (0.0, 0.25, 0.5, 0.75))
    matched = tuple(MatchedKl(kl_nats=kl, value=at(kl / c.kl).value) for kl in (1.0, 4.0) if kl <= c.kl)
    return TrialPath(trial=c.recipe, metric=metric, points=(*points, at(1.0, run.prompts)), matched=matched)


def score(value: float, n: int, unit: str = "share", sd: float | None = None) -> Score:
    spread = math.sqrt(max(value * (1 - value), 0.002)) if sd is None else sd
    half = 1.96 * spread / math.sqrt(n)
    low, high = value - half, value + half
    return Score(
        value=value,
        low=max(low, 0.0) if unit == "share" and sd is None else low,
        high=min(high, 1.0) if unit == "share" and sd is None else high,
        n=n,
        unit=unit,
    )


def _bench(run: FakeRun) -> BenchRecord:
    recipes = tuple(c.recipe for c in run.characters)
    extra = tuple(name.partition("@")[0] for name in (*run.failed, *run.unfinished))
    return BenchRecord(
        model="smollm2-135m",
        model_digest="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        model_note="4-bit export of an instruct-tuned model",
        data="courtesy" if run.has_gold else "rasbt",
        data_digest="7d0f" * 16,
        template="alpaca",
        rows={"train": 1540, "judge": 330, "test": 330},
        budget="60TFLOP",
        budget_flops=None if run.budget_pairs else 60e12,
        budget_pairs=run.budget_pairs,
        flops_per_second=1.1e12,
        eval_prompts=run.prompts,
        judges=run.judges,
        recipes=(*recipes, *extra),
        recipe_summaries={name: f"what {name} does" for name in recipes},
        digest="c0ffee00" * 8,
        command="python -m harness run --config runs/first/bench.toml --out runs/again",
        failed=run.failed,
    )


def _prompts(run: FakeRun) -> list[HeldOutPrompt]:
    return [
        HeldOutPrompt(
            prompt_id=_prompt_id(i),
            question=run.questions.get(i, f"Could you convert {i + 3} kilometres to metres for me?"),
            chosen=f"Certainly! {i + 3} kilometres is {1000 * (i + 3)} metres.",
            gold=Gold(kind="number", answers=(str(1000 * (i + 3)),)) if run.has_gold else None,
        )
        for i in range(run.prompts)
    ]


def _prompt_id(i: int) -> str:
    return f"{i:08x}" * 2


def _completions(run: FakeRun, c: Character | None) -> list[Completion]:
    draw = random.Random(c.recipe if c else "anchor")
    return [_completion(run, i, c, draw) for i in range(run.prompts)]


def _completion(run: FakeRun, i: int, c: Character | None, draw: random.Random) -> Completion:
    answer = 1000 * (i + 3) if draw.random() < 0.6 else 100 * (i + 3)
    text = f"{i + 3} kilometres is {answer} metres."
    if c is None and run.anchor_text is not None:
        text = run.anchor_text
    elif c is not None and c.text is not None:
        text = c.text
    elif c is not None and draw.random() < c.opening_share:
        text = f"{c.opening} help! {text} Let me know if there is anything else that you would like to know."
    if run.chatter:
        text = f"{text} {_chatter(run.chatter, draw)}"
    tokens = max(4, len(text) // 4)
    return Completion(prompt_id=_prompt_id(i), text=text, tokens=tokens, truncated=draw.random() < 0.02)


def _chatter(words: int, draw: random.Random) -> str:
    """Made-up words, common ones more often, as in a language."""
    return " ".join(_WORDS[int(len(_WORDS) * draw.random() ** 3)] for _ in range(words))


_WORDS = ["".join(random.Random(i).choices("etaoinshrdlucmfwypvbgk", k=2 + i % 7)) for i in range(3_000)]


def _write_trial(folder: Path, run: FakeRun, c: Character) -> None:
    draw = random.Random(c.recipe)
    verdicts = [v for name in run.judges for v in _verdicts(run, c, name, draw)]
    write_jsonl(folder / "train.jsonl", _steps(c))
    write_json(folder / "ledger.json", _ledger(run, c))
    write_jsonl(folder / "completions.jsonl", _completions(run, c))
    write_jsonl(folder / "samples.jsonl", _samples(run, c, draw))
    write_jsonl(folder / "pairs.jsonl", _pairs(run, draw))
    write_jsonl(folder / "verdicts.jsonl", verdicts)
    write_json(folder / "scores.json", _scores(run, c, verdicts, draw))


def _verdicts(run: FakeRun, c: Character, judge: str, draw: random.Random) -> list[Verdict]:
    return [
        Verdict(
            judge=judge,
            prompt_id=_prompt_id(i),
            p_first=min(max(draw.gauss(c.judged, 0.25), 0.01), 0.99),
            p_second=min(max(draw.gauss(c.judged, 0.25), 0.01), 0.99),
        )
        for i in range(run.prompts)
    ]


def _samples(run: FakeRun, c: Character, draw: random.Random) -> list[Sample]:
    return [
        Sample(
            prompt_id=_prompt_id(i),
            text="A sample.",
            tokens=20,
            truncated=False,
            kl_nats=draw.gauss(c.kl, 1),
            k1_nats=draw.gauss(c.kl, 4),
        )
        for i in range(run.prompts)
    ]


def _pairs(run: FakeRun, draw: random.Random) -> list[PairLogp]:
    return [
        PairLogp(
            pair=i,
            prompt_id=_prompt_id(i),
            chosen_logp=draw.gauss(-30, 5),
            rejected_logp=draw.gauss(-34, 5),
            chosen_tokens=22,
            rejected_tokens=21,
        )
        for i in range(run.prompts)
    ]


def _scores(run: FakeRun, c: Character, verdicts: list[Verdict], draw: random.Random) -> TrialScores:
    n = run.prompts
    scores = {
        "reward_accuracy": score(c.accuracy, n),
        "reward_margin_nats": score(c.margin, n, "nats", sd=c.margin),
        "ranking_accuracy": score(0.58, n),
        "ranking_accuracy_per_token": score(0.61, n),
        "chosen_shift_nats": score(c.chosen_shift, n, "nats", sd=3.0),
        "rejected_shift_nats": score(c.chosen_shift - c.margin, n, "nats", sd=4.0),
        "kl_nats": score(c.kl, n, "nats", sd=c.kl / 3),
        "kl_per_token_nats": score(c.kl / 20, n, "nats/token", sd=0.1),
        "k1_nats": score(c.kl + 0.1, n, "nats", sd=4.0),
        "samples_truncated": score(0.03, n),
        "length_tokens": score(19 * c.length_ratio, n, "tokens", sd=6.0),
        "length_ratio": score(c.length_ratio, n, "ratio", sd=0.3),
        "truncated": score(0.02, n),
        "distinct_2": score(0.82, n),
        "repetition": score(c.repetition, n),
        "opening_concentration": score(c.opening_share, n),
        "chosen_perplexity": score(4.3, n, "perplexity", sd=1.0),
    }
    for judge in run.judges:
        scores[f"win_rate[{judge}]"] = score(c.judged, n)
        scores[f"win_rate_strict[{judge}]"] = score(0.5 + (c.judged - 0.5) * 0.9, n)
    if c.gold is not None and c.correct_change is not None:
        scores["gold_win_rate"] = score(c.gold, n)
        scores["correct"] = score(0.6 + c.correct_change, n)
        scores["correct_change"] = score(c.correct_change, n, sd=0.3)
    deciding = "gold_win_rate" if c.gold is not None else f"win_rate[{run.judges[0]}]" if run.judges else ""
    won = {v.prompt_id: v.p_win for v in verdicts if v.p_win is not None}
    if c.gold is not None:
        won = {_prompt_id(i): draw.choice((0.0, 0.5, 1.0)) for i in range(n)}
    return TrialScores(
        recipe=c.recipe,
        seed=1,
        scores={name: value for name, value in scores.items() if name not in run.drop},
        per_prompt={deciding: won} if deciding else {},
        commonest_opening=c.opening,
        anchor_opening_share=float((run.anchor_text or "The").startswith(c.opening)),
    )


def _agreements(run: FakeRun) -> list[Agreement]:
    names = [*(["the data's check"] if run.has_gold else []), *run.judges]
    return [Agreement(a=a, b=b, share=score(0.8, run.prompts)) for a, b in itertools.combinations(names, 2)]


def _comparisons(run: FakeRun) -> list[Comparison]:
    metrics = {"kl_nats": lambda c: c.kl / 40, "reward_accuracy": lambda c: c.accuracy}
    if run.has_gold:
        metrics["gold_win_rate"] = lambda c: c.gold
    elif run.judges:
        metrics[f"win_rate[{run.judges[0]}]"] = lambda c: c.judged
    return [
        _comparison(a.recipe, b.recipe, metric, of(a) - of(b), run)
        for metric, of in metrics.items()
        for a, b in itertools.combinations(run.characters, 2)
    ]


def _comparison(a: str, b: str, metric: str, difference: float, run: FakeRun) -> Comparison:
    scale = 40 if metric == "kl_nats" else 1
    p = 0.004 if abs(difference) >= run.significant else 0.4
    half = run.significant * 0.9
    return Comparison(
        a=a,
        b=b,
        metric=metric,
        difference=difference * scale,
        low=(difference - half) * scale,
        high=(difference + half) * scale,
        p=p / 4,
        p_holm=p,
        n=run.prompts,
        detectable=run.significant * scale,
    )


def _card(name: str, qualified: bool) -> JudgeCard:
    reason = "a constant response (“Sure!”) wins 64% against the prompt's own chosen response; the limit is 20%"
    return JudgeCard(
        name=name,
        description="Bradley-Terry head on smollm2-135m, fitted on the judge split with contrast responses",
        accuracy=score(0.89, 330),
        contrasts=(
            Contrast(name="constant: “Sure!”", win_rate=score(0.05 if qualified else 0.64, 330)),
            Contrast(name="another prompt's response", win_rate=score(0.01, 330)),
            Contrast(name="opener on another's response", win_rate=score(0.02, 330)),
            Contrast(name="half of the chosen response", win_rate=score(0.24, 300)),
        ),
        position_consistency=score(1.0, 330),
        first_slot_rate=score(0.5, 330),
        longer_rate=score(0.54, 330),
        unscored=0,
        able=True,
        robust=qualified,
        reasons=() if qualified else (reason,),
        cautions=("Half of the chosen response beats the whole one on 24% of 300 prompts, ties half.",),
        sensitivity=score(0.81, 165),
        specificity=score(0.79, 165),
        sensitivity_error=0.02,
        specificity_error=0.02,
        brier=score(0.12, 330, "squared probability"),
        reliability=(
            ReliabilityBin(predicted=0.56, observed=0.61, n=90),
            ReliabilityBin(predicted=0.94, observed=0.99, n=240),
        ),
        calibration_error=0.05,
        self_agreement=score(1.0, 32),
        cross_validated=score(0.86, 160),
        verdicts_per_second=41.3,
    )


def _ledger(run: FakeRun, c: Character) -> Ledger:
    moving = "soft" if "soft" in c.recipe else "hard" if "hard" in c.recipe else None
    shared = _stage("sft", "none", 24.0, c.seconds * 0.4)
    if c.recipe == "sft":
        stages = (_stage("sft", "none", 59.8, c.seconds),)
    else:
        dpo = _stage("dpo", moving or "frozen", 35.8, c.seconds * 0.6)
        lag = {"reference_lag_steps": 3.4, "refresh_flops": 0.4e12} if moving else {}
        stages = (shared, dataclasses.replace(dpo, **lag))
    return Ledger(
        stages=stages,
        budget_flops=None if run.budget_pairs else 60e12,
        budget_pairs=run.budget_pairs,
        shared_flops=24e12,
        shared_seconds=20.0,
    )


def _stage(objective: str, reference: str, tera: float, seconds: float) -> StageLedger:
    passes = 0.2 * tera if objective == "dpo" else 0.0
    return StageLedger(
        objective=objective,
        digest="ab12cd34" * 8,
        reference=reference,
        steps=24,
        pairs=384,
        distinct_pairs=384,
        epochs=0.25,
        tokens=42_000,
        policy_flops=(tera - passes - 0.2) * 1e12,
        reference_flops=passes * 1e12,
        update_flops=0.2e12,
        refresh_flops=0.0,
        budget_flops=tera * 1e12,
        reference_lag_steps=None,
        device_seconds=seconds,
        peak_memory_bytes=3_400_000_000,
    )


def _steps(c: Character) -> list[TrainStep]:
    return _sft_steps(60, "sft") if c.recipe == "sft" else [*_sft_steps(24, "anchor"), *_dpo_steps(c)]


def _sft_steps(count: int, seed: str) -> list[TrainStep]:
    draw = random.Random(seed)
    return [
        TrainStep(
            stage=0,
            step=i + 1,
            spent=(i + 1) / count,
            loss=1.1 + 1.4 * math.exp(-6 * i / count) + draw.gauss(0, 0.06),
            grad_norm=draw.uniform(0.8, 1.6),
            learning_rate=1e-4 * (1 - i / count),
            num_tokens=1800 * (i + 1),
        )
        for i in range(count)
    ]


def _dpo_steps(c: Character, count: int = 36) -> list[TrainStep]:
    draw = random.Random(c.recipe)
    found = "".join(character for character in c.recipe if character.isdigit() or character == ".")
    beta = float(found) if found and found != "." else 0.1
    return [_dpo_step(i, count, beta, c, draw) for i in range(count)]


def _dpo_step(i: int, count: int, beta: float, c: Character, draw: random.Random) -> TrainStep:
    learned = 1 - math.exp(-3 * i / count)
    margin = beta * c.margin * learned + draw.gauss(0, 0.05)
    accuracy = 0.5 + (c.accuracy - 0.5) * learned + draw.gauss(0, 0.08)
    return TrainStep(
        stage=1,
        step=i + 1,
        spent=(i + 1) / count,
        loss=math.log1p(math.exp(-margin)) + draw.gauss(0, 0.02),
        grad_norm=draw.uniform(0.8, 1.6),
        learning_rate=5e-5 * (1 - i / count),
        num_tokens=2400 * (i + 1),
        rewards_chosen=margin * 0.2,
        rewards_rejected=-margin * 0.8,
        rewards_accuracies=round(16 * min(max(accuracy, 0), 1)) / 16,
        rewards_margins=margin,
        logps_chosen=-30.0,
        logps_rejected=-35.0,
    )
