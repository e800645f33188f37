"""What is known of preference data without a model: its parts, what repeats, whether length gives the label away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.data.faults import Dropped, refusal
from harness.data.labelled import SPLIT_NAMES
from harness.data.reading import Reading
from harness.data.rows import DataSet, PairList, fixed_splits, split_warnings
from harness.data.splits import split_numbers, split_pairs
from harness.errors import HarnessError

SHOWN = 3  # examples
LONGEST_SHOWN = 240  # characters of each text of an example
_Z = 1.96
_MIXERS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)  # odd, to tell texts in other places apart


@dataclass(frozen=True, kw_only=True)
class Part:
    """One split."""

    name: str
    pairs: int
    prompts: int


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """What two splits share."""

    splits: tuple[str, str]
    prompts: int  # the same but for case, spacing or Unicode form; of the groups that splits are drawn for
    responses: int  # chosen ones of the second, word for word chosen in the first


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How long the texts of one kind are."""

    what: str
    unit: str  # "characters" or "tokens"
    mean: float
    median: float
    p95: float
    longest: int


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over pairs with its 95% interval, pairs of one prompt taken together; None with a single prompt."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Example:
    """One pair, its texts shortened."""

    row: int
    prompt: str
    chosen: str
    rejected: str


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What `data` shows."""

    name: str
    digest: str
    format: str
    template: str
    columns: tuple[str, ...]
    rows: int
    pairs: int
    prompts: int
    dropped: tuple[Dropped, ...]
    splits: tuple[Part, ...]
    drawn: bool  # whether we draw the splits; else the rows name them
    overlaps: tuple[Overlap, ...]
    lengths: tuple[Spread, ...]
    several: int  # prompts with more than one pair
    contradicting: int  # pairs whose responses the same prompt has the other way round
    longer: Estimate  # share of pairs whose chosen response has more characters than the rejected, a tie being half
    difference: Estimate  # characters of the chosen response, less those of the rejected
    checkable: int  # pairs whose true answer the data knows
    examples: tuple[Example, ...]
    notes: tuple[str, ...]
    refused: str | None  # why a bench would refuse it


def inspect(reading: Reading, template: str = "auto") -> Inspection:
    """All of it. Nothing is refused here: what a bench would refuse is said."""
    pairs = PairList(reading.kept, reading.places, "plain")
    dataset = DataSet(
        name=reading.name, digest=reading.digest, template="plain", pairs=pairs, splits=fixed_splits(pairs)
    )
    prompts, splits = pairs.column("prompt_ids"), split_numbers(dataset)
    distinct, prompt_of, counts = np.unique(prompts, return_inverse=True, return_counts=True)
    chosen, rejected = (pairs.column(f"{name}_characters").astype(np.int64) for name in ("chosen", "rejected"))
    return Inspection(
        name=reading.name,
        digest=reading.digest,
        format=reading.form.words,
        template=reading.form.template if template == "auto" else template,
        columns=reading.found.columns,
        rows=reading.found.rows,
        pairs=len(pairs),
        prompts=len(distinct),
        dropped=tuple(reading.dropped.values()),
        splits=tuple(_parts(prompts, splits)),
        drawn=dataset.splits is None,
        overlaps=tuple(_overlaps(pairs.groups, pairs.column("chosen_ids"), splits)),
        lengths=tuple(_lengths(pairs)),
        several=int((counts > 1).sum()),
        contradicting=_contradicting(pairs),
        longer=_estimate((np.sign(chosen - rejected) + 1) / 2, prompt_of),
        difference=_estimate(chosen - rejected, prompt_of),
        checkable=int(pairs.column("golds").sum()),
        examples=tuple(_examples(pairs)),
        notes=() if dataset.splits else tuple(split_warnings(reading)),
        refused=refusal(reading.dropped, reading.found.rows) or _unsplittable(dataset),
    )


def _parts(prompts: npt.NDArray[Any], splits: npt.NDArray[np.int8]) -> Iterator[Part]:
    for number, name in enumerate(SPLIT_NAMES):
        own = prompts[splits == number]
        yield Part(name=name, pairs=len(own), prompts=len(np.unique(own)))


def _overlaps(groups: npt.NDArray[Any], chosen: npt.NDArray[Any], splits: npt.NDArray[np.int8]) -> Iterator[Overlap]:
    for first, second in combinations(range(len(SPLIT_NAMES)), 2):
        mine, theirs = splits == first, splits == second
        yield Overlap(
            splits=(SPLIT_NAMES[first], SPLIT_NAMES[second]),
            prompts=len(np.intersect1d(groups[mine], groups[theirs])),
            responses=int(np.isin(chosen[theirs], chosen[mine]).sum()),
        )


def _lengths(pairs: PairList) -> Iterator[Spread]:
    for what in ("prompt", "chosen", "rejected"):
        yield spread(what, "characters", pairs.column(f"{what}_characters"))


def spread(what: str, unit: str, lengths: npt.NDArray[Any]) -> Spread:
    """Of these lengths, at least one."""
    middle, high = np.percentile(lengths, (50, 95)).tolist()
    return Spread(what=what, unit=unit, mean=float(lengths.mean()), median=middle, p95=high, longest=int(lengths.max()))


def _contradicting(pairs: PairList) -> int:
    """Pairs that another one of the same prompt says the opposite of."""
    prompts, chosen, rejected = (pairs.column(f"{name}_ids") for name in ("prompt", "chosen", "rejected"))
    prompt, first, second = (np.uint64(mixer) for mixer in _MIXERS)
    said = prompts * prompt + chosen * first + rejected * second  # modulo 2^64, as digests are
    return int(np.isin(said, prompts * prompt + rejected * first + chosen * second).sum())


def _estimate(values: npt.NDArray[Any], cluster_of: npt.NDArray[Any]) -> Estimate:
    """The mean; its variance from the sums of residuals by prompt (Liang and Zeger 1986), normal quantiles."""
    mean = float(values.mean())
    sums = np.bincount(cluster_of.ravel(), weights=values - mean)
    if len(sums) < 2:
        return Estimate(value=mean, low=None, high=None)
    half = _Z * float(np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1))) / len(values)
    return Estimate(value=mean, low=mean - half, high=mean + half)


def _examples(pairs: PairList) -> Iterator[Example]:
    """The first, the middle and the last pair."""
    for place in sorted({0, len(pairs) // 2, len(pairs) - 1})[:SHOWN]:
        pair = pairs[place]
        yield Example(
            row=int(pairs.column("numbers")[place]),
            prompt=shortened(pair.question),
            chosen=shortened(pair.chosen),
            rejected=shortened(pair.rejected),
        )


def shortened(text: str) -> str:
    """At most so many characters of it, the end standing for the rest."""
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN].rstrip()} … ({len(text):,} characters)"


def _unsplittable(dataset: DataSet) -> str | None:
    try:
        split_pairs(dataset)
    except HarnessError as error:
        return str(error)
    return None
