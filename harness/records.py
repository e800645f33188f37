"""What travels between the stages and lies in a run's folder: frozen records, each field with its unit.

Nothing here imports torch. Log-probs are natural and summed over the response's tokens, its end token included.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

SCHEMA = 1  # of report.json
WIDEST_CORRECTED = 0.4  # a corrected win rate with a wider interval says that its judge is too weak to correct for


WinRateKind = Literal["", "strict", "controlled", "corrected", "chosen"]


def win_rate_by(judge: str, kind: WinRateKind = "") -> str:
    """The metric's name: `win_rate[probe]`, against the anchor; or another kind of it.

    strict: a win only where both orders agree · controlled: as it would be at equal length · corrected: for the judge's
    errors on labelled pairs · chosen: against the data set's chosen response instead of the anchor's.
    """
    return f"win_rate{'_' if kind else ''}{kind}[{judge}]"


def judge_of(metric: str) -> str | None:
    """The judge of a metric that `win_rate_by` named, else None."""
    match = re.fullmatch(r"win_rate(?:_strict|_controlled|_corrected|_chosen)?\[(.+)\]", metric)
    return match[1] if match else None


@dataclass(frozen=True, kw_only=True)
class Gold:
    """What the data set knows to be true of one prompt's answer; `evals.gold` reads it."""

    kind: str  # "number": the answer is a number in the response; "word": it is a word or phrase in it
    answers: tuple[str, ...]  # any one of them is correct
    wrong: tuple[str, ...] = ()  # known wrong answers: a response that gives one is incorrect
    given: tuple[str, ...] = ()  # numbers of the question, which a response may repeat


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One labelled preference: a prompt and two responses."""

    prompt_id: str  # digest of the normalised prompt: the cluster of every interval
    question: str  # the prompt as a person wrote it (instruction and input), for judges and reports
    prompt: str  # the prompt as the model reads it, in its template
    chosen: str
    rejected: str
    gold: Gold | None = None


@dataclass(frozen=True, kw_only=True)
class Splits:
    """The three parts of a data set; no prompt_id is in two of them."""

    train: Sequence[Pair]
    judge: Sequence[Pair]  # judges are fitted on these
    test: Sequence[Pair]  # everything reported is measured on these


@dataclass(frozen=True, kw_only=True)
class HeldOutPrompt:
    """One line of prompts.jsonl: a prompt that every trial answered, and what the data says of it."""

    prompt_id: str
    question: str  # as a person wrote it
    chosen: str  # the data set's chosen response
    gold: Gold | None = None


@dataclass(frozen=True, kw_only=True)
class Completion:
    """A checkpoint's greedy answer to one held-out prompt."""

    prompt_id: str
    text: str
    tokens: int  # end token included
    truncated: bool  # stopped by the length limit
    token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A checkpoint's answer at temperature 1, with its divergence from the anchor along it."""

    prompt_id: str
    text: str
    tokens: int
    truncated: bool
    kl_nats: float  # Rao-Blackwellised: exact KL at each position, summed
    k1_nats: float  # log π(y) − log a(y), the plain estimate kept as a check


@dataclass(frozen=True, kw_only=True)
class PairLogp:
    """Log-probs that one checkpoint gives one held-out pair. `pair` is its place among the pairs that were read."""

    pair: int
    prompt_id: str
    chosen_logp: float  # nats, summed
    rejected_logp: float
    chosen_tokens: int
    rejected_tokens: int


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One judge on one prompt: P(the trial's completion beats another response), asked in both orders.

    None where the judge gave no readable answer: counted as unscored, never as a loss.
    """

    judge: str
    prompt_id: str
    p_first: float | None  # the trial's completion shown first
    p_second: float | None  # shown second
    problem: str | None = None  # why it is unscored
    against: str = "anchor"  # whose response it was compared with: the anchor's, or the data set's "chosen" one

    @property
    def p_win(self) -> float | None:
        """Swap-debiased probability that the trial wins; None if either order is unscored."""
        if self.p_first is None or self.p_second is None:
            return None
        return (self.p_first + self.p_second) / 2


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number with its 95% interval."""

    value: float
    low: float
    high: float
    n: int
    unit: str  # "share", "nats", "tokens", "ratio", "nats/token"


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """How often one kind of bad response beats the prompt's own chosen response, by one judge."""

    name: str  # "constant: Sure!", "another prompt's response", "half of the chosen response"
    win_rate: Score


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Verdicts that are about as sure as each other: how sure they are, and how often they are right."""

    predicted: float  # mean probability that they give to the response they prefer
    observed: float  # share of them that prefer the chosen one
    n: int  # verdicts


@dataclass(frozen=True, kw_only=True)
class JudgeCard:
    """What one judge was measured to be, on held-out labelled pairs, before anything it says is believed."""

    name: str  # as asked for: "probe", "ollama:llama3.2", "rule:gold"
    description: str  # model, digest, how it decides
    accuracy: Score  # P-weighted agreement with the labels is not used: share of pairs ranked right, ties half
    contrasts: tuple[Contrast, ...]
    position_consistency: Score  # share of pairs with the same winner in both orders
    first_slot_rate: Score  # mean P(the first shown wins)
    longer_rate: Score  # share of pairs where it prefers the longer response, ties half
    unscored: int  # pairs of the qualification without a readable verdict
    able: bool
    robust: bool
    reasons: tuple[str, ...] = ()  # one sentence for each thing it failed
    cautions: tuple[str, ...] = ()  # one sentence for each thing to beware of that fails nobody
    sensitivity: Score | None = None  # q1: mean P(A wins), both orders asked, over labelled pairs whose A is the better
    specificity: Score | None = None  # q0: mean P(B wins) over those whose B is; which is called A is drawn by prompt
    sensitivity_error: float | None = None  # standard error, clustered by prompt
    specificity_error: float | None = None
    brier: Score | None = None  # mean (1 − P(chosen wins))²: 0.25 for who knows nothing and says so
    reliability: tuple[ReliabilityBin, ...] = ()  # from the least to the most sure; empty bins are left out
    calibration_error: float | None = None  # mean |predicted − observed| over the bins, weighted by verdicts
    self_agreement: Score | None = None  # share of questions asked again, past any cache, with the same winner
    cross_validated: Score | None = None  # of a fitted judge: accuracy on its fitting pairs, by folds of prompts
    verdicts_per_second: float | None = field(default=None, compare=False)  # both orders asked; measured, so not equal

    @property
    def qualified(self) -> bool:
        """Only a judge that is both may decide the answer."""
        return self.able and self.robust


@dataclass(frozen=True, kw_only=True)
class StageLedger:
    """What one stage of one trial cost."""

    objective: str  # "sft", "dpo"
    digest: str  # of the checkpoint that it made
    reference: str  # "none", "frozen", "soft", "hard"
    steps: int
    pairs: int  # rows consumed (a pair for a preference objective, a chosen response for sft)
    distinct_pairs: int
    epochs: float
    tokens: int  # that the policy read in training: prompts included, and what a pair's responses begin with once
    policy_flops: float  # forward and backward
    reference_flops: float  # reference passes
    update_flops: float  # optimizer steps: memory-bound, at their FLOP-equivalent
    refresh_flops: float  # refreshes of a moving reference, likewise
    budget_flops: float | None  # this stage's share; None where the budget is counted in pairs
    reference_lag_steps: float | None  # mean age of the reference in steps; None without a moving one
    device_seconds: float  # all of the above, as if alone
    peak_memory_bytes: int  # the most that the process (on an accelerator: its tensors there) held during the stage

    @property
    def flops(self) -> float:
        """Everything charged for this stage."""
        return self.policy_flops + self.reference_flops + self.update_flops + self.refresh_flops


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """What one trial is charged, as if it had run alone, and what sharing saved."""

    stages: tuple[StageLedger, ...]
    budget_flops: float | None
    budget_pairs: int | None  # set where the budget is counted in pairs instead
    shared_flops: float  # charged, but computed once for several trials
    shared_seconds: float

    @property
    def flops(self) -> float:
        return sum(stage.flops for stage in self.stages)

    @property
    def device_seconds(self) -> float:
        return sum(stage.device_seconds for stage in self.stages)


@dataclass(frozen=True, kw_only=True)
class TrialScores:
    """All that was measured of one trial. `per_prompt` is for paired comparisons: metric → prompt_id → value."""

    recipe: str
    seed: int
    scores: dict[str, Score]
    per_prompt: dict[str, dict[str, float]]
    commonest_opening: str  # the first 4 tokens that the most completions share
    anchor_opening_share: float  # share of the anchor's completions that begin with them too


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two trials, one metric, paired by prompt: a − b."""

    a: str  # "RECIPE" or "anchor"; with several seeds "RECIPE@SEED"
    b: str
    metric: str
    difference: float
    low: float
    high: float
    p: float  # sign-flip permutation of the prompts; with several seeds a t test, seeds crossed with prompts
    p_holm: float  # Holm over all pairs of this metric
    n: int  # prompts
    detectable: float  # the difference that 80% of such runs would show, at Holm's strictest level
    seeds: int = 1  # of each side: with one, a and b are checkpoints, else recipes


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """On how many prompts each of two trials comes out ahead; the rest are ties."""

    ahead: int  # prompts that a wins over b
    behind: int
    p: float  # exact McNemar


@dataclass(frozen=True, kw_only=True)
class PairedMetric:
    """One metric of two trials, over the prompts that both have a value for."""

    comparison: Comparison  # a − b; where it is not adjusted, its p_holm is its p
    adjusted: bool  # p_holm is over all pairs of trials of the bench
    a_mean: float  # over those prompts, in the metric's unit
    b_mean: float
    outcomes: Outcomes | None  # None where a prompt's value is no win, loss or tie


@dataclass(frozen=True, kw_only=True)
class TrainStep:
    """One line of train.jsonl, in the field's names (see `harness.store` for the slashes)."""

    stage: int
    step: int
    spent: float  # fraction of the stage's budget spent after this step
    loss: float
    grad_norm: float
    learning_rate: float
    num_tokens: int  # read since the stage began, as the ledger counts them
    rewards_chosen: float | None = None  # beta · log-ratio, nats; None for sft
    rewards_rejected: float | None = None
    rewards_accuracies: float | None = None
    rewards_margins: float | None = None
    logps_chosen: float | None = None
    logps_rejected: float | None = None


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How often two who judge name the same winner, of the responses on which both name one."""

    a: str  # a judge's name, or "the data's check"
    b: str
    share: Score  # clustered by prompt, over all trials


@dataclass(frozen=True, kw_only=True)
class JointScores:
    """What one trial scores where all trials of the bench are looked at together."""

    trial: str  # "RECIPE", with several seeds "RECIPE@SEED"
    scores: dict[str, Score]  # length-controlled and corrected win rates


@dataclass(frozen=True, kw_only=True)
class Look:
    """How wide the main contrast's interval was at one of the planned numbers of prompts."""

    prompts: int
    a: str  # the contrast's sides, as in comparisons
    b: str
    metric: str
    half_width: float  # in the metric's unit


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Bradley–Terry strengths of all trials, from every two of them on the same prompts."""

    judge: str  # a judge's name, or "the data's check"
    strengths: dict[str, Score]  # trial → strength in logits, the anchor's being 0; with several seeds a trial a seed
    agreement: float | None = None  # Kendall's τ-b with the order by the data's check, the anchor included


@dataclass(frozen=True, kw_only=True)
class Waypoint:
    """A checkpoint on the way through a trial's last stage, scored on the first few held-out prompts and their pairs.

    Step 0 is the anchor itself, where the stage begins there: its values hold for every prompt, by definition.
    """

    step: int  # of the stage, after which the weights were kept
    spent: float  # share of the stage's budget
    scores: dict[str, Score]  # kl_nats, reward_accuracy, and the win rates that cost little
    per_prompt: dict[str, dict[str, float]]  # metric → prompt_id → value


@dataclass(frozen=True, kw_only=True)
class PathPoint:
    """Where a trial stood when a share of its last stage was spent; the last point is the trial itself."""

    spent: float  # share of the stage's budget
    kl: Score  # nats a response; its n is the prompts that were answered there
    value: Score  # of the path's metric


@dataclass(frozen=True, kw_only=True)
class MatchedKl:
    """What a trial's path scores where it first reaches a KL, interpolated between the checkpoints on either side."""

    kl_nats: float
    value: Score


@dataclass(frozen=True, kw_only=True)
class TrialPath:
    """One trial's way to its end, by one metric."""

    trial: str  # "RECIPE", with several seeds "RECIPE@SEED", as in comparisons
    metric: str
    points: tuple[PathPoint, ...]  # in the order of training
    matched: tuple[MatchedKl, ...]  # at those of the bench's common KL values that it reaches


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One trial as its folder holds it."""

    recipe: str
    seed: int
    steps: tuple[TrainStep, ...]
    ledger: Ledger
    completions: tuple[Completion, ...]
    samples: tuple[Sample, ...]
    pairs: tuple[PairLogp, ...]
    verdicts: tuple[Verdict, ...]
    scores: TrialScores
    waypoints: tuple[Waypoint, ...] = ()  # none in runs from before they were measured, and in a stage of one step

    @property
    def name(self) -> str:
        return f"{self.recipe}@{self.seed}"


@dataclass(frozen=True, kw_only=True)
class JoinedRun:
    """One of the runs that a report of several was made from."""

    name: str  # its folder, in as few parts of its path as tell it from the others
    digest: str  # of its bench.toml
    budget: str  # as asked: "60s"
    dtype: str
    trials: int  # finished ones; what another run has too counts here as well


@dataclass(frozen=True, kw_only=True)
class BenchRecord:
    """What was compared: enough to say it in a report and to run it again. Lies in record.json."""

    model: str  # "smollm2-135m"
    model_digest: str
    model_note: str  # "4-bit export of an instruct-tuned model", or ""
    data: str
    data_digest: str
    template: str
    rows: dict[str, int]  # train, judge, test → number of pairs
    budget: str  # as asked: "60s"
    budget_flops: float | None
    budget_pairs: int | None
    flops_per_second: float | None  # calibrated; None where the budget was not a time
    eval_prompts: int
    judges: tuple[str, ...]
    recipes: tuple[str, ...]
    recipe_summaries: dict[str, str] = field(default_factory=dict)
    recipe_knobs: dict[str, dict[str, str]] = field(default_factory=dict)  # recipe → knob → value, as it took effect
    seeds: int = 1
    dtype: str = ""
    digest: str = ""  # of bench.toml
    command: str = ""  # that reproduces it
    data_notes: tuple[str, ...] = ()  # what was left out of the data, a sentence each
    failed: dict[str, str] = field(default_factory=dict)  # trial → why it has no scores
    max_new_tokens: int | None = None  # length limit of a completion; None in records from before it was kept
    runs: tuple[JoinedRun, ...] = ()  # those of a joined report; empty for a run of its own
    run_notes: tuple[str, ...] = ()  # what differs between them, a sentence each
    adapter: str = ""  # "lora:r=16:alpha=32:target=all-linear:lr=10"; empty where all weights were trained
    columns: str = ""  # "chosen=accepted": which of the data's columns held what, where it was said
    memory: str = ""  # "6GB, micro-batches of at most 512 tokens", where it was asked for or changed them
    labelled_digest: str = ""  # of the labelled pairs that every checkpoint reads; empty in older records


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A whole run, as the report reads it. Only finished trials are in `trials`, in the order of the recipes."""

    bench: BenchRecord
    anchor_completions: tuple[Completion, ...]
    anchor_steps: tuple[TrainStep, ...]
    trials: tuple[TrialRecord, ...]
    judges: tuple[JudgeCard, ...]  # in the order asked for
    comparisons: tuple[Comparison, ...]
    agreements: tuple[Agreement, ...]
    prompts: tuple[HeldOutPrompt, ...]
    anchor_scores: TrialScores | None = None  # anchor/scores.json: its quality figures, where written
    recipes: tuple[TrialScores, ...] = ()  # recipes.json: with several seeds, each recipe's seeds as one
    looks: tuple[Look, ...] = ()  # looks.json: where --precision was asked
    rankings: tuple[Ranking, ...] = ()  # rankings.json: by the data's check, then by the judges that compare any two
    paths: tuple[TrialPath, ...] = ()  # paths.json: a metric after another, each with the trials that have waypoints
    unfinished: tuple[str, ...] = ()  # trials begun, or asked for, that have neither scores nor an error


@dataclass(frozen=True, kw_only=True)
class StandingTrial:
    """One trial's per-prompt values, in the order of its standing's prompts; None where a prompt has no value."""

    recipe: str
    seed: int
    values: dict[str, tuple[float | None, ...]]  # metric → value a prompt


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What a run scored, prompt by prompt, and on what ground: all that a gate compares; written down, a baseline."""

    model: str
    model_digest: str
    data: str
    template: str
    held_out_digest: str  # of the held-out prompts, their chosen responses and what the data knows of them
    pairs_digest: str  # of the labelled pairs that were read, by their lengths
    max_new_tokens: int | None  # length limit of a completion; None where the record does not say
    judges: dict[str, str]  # name → what it is: its win rates compare only where this is the same
    deciding: str  # the metric that the run's answer rests on
    units: dict[str, str]  # metric → unit
    prompts: tuple[str, ...]  # prompt ids
    anchor: tuple[str | None, ...]  # digest of the anchor's answer to each: what wins, margins and KL are measured by
    trials: tuple[StandingTrial, ...]
    labelled_digest: str = ""  # of the same pairs, by their texts; empty in older baselines
    schema: int = 1


@dataclass(frozen=True, kw_only=True)
class GateRule:
    """How much a metric may fall."""

    metric: str
    margin: float  # in the metric's unit: a drop of this size is a regression
    better: str  # "higher" or "lower"
    recipes: tuple[str, ...] = ("*",)  # globs of the baseline's recipes


@dataclass(frozen=True, kw_only=True)
class GateRow:
    """One rule applied to one recipe. What could not be measured is None, and `reason` says why."""

    recipe: str
    against: str  # the baseline's recipe
    metric: str
    unit: str
    better: str
    margin: float
    verdict: str  # "pass", "regression" or "cannot tell"
    before: float | None = None  # the baseline's mean
    now: float | None = None
    drop: float | None = None  # towards the worse: above zero is worse
    low: float | None = None  # of the drop's interval, which holds for all rows at once
    high: float | None = None
    n: int = 0  # prompts
    seeds: tuple[int, int] = (0, 0)  # the baseline's and the run's
    power: float | None = None  # chance to call a drop of just the margin a regression
    needed: int | None = None  # prompts with which this would pass four times in five if nothing had fallen
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class GateReport:
    """Every row of a gate."""

    confidence: float  # that equal models raise no alarm, and a drop of the margin does not pass, over all rows
    rows: tuple[GateRow, ...]

    @property
    def verdict(self) -> str:
        """The gravest of the rows'."""
        found = {row.verdict for row in self.rows}
        return next((grave for grave in ("regression", "cannot tell") if grave in found), "pass")
