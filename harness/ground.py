"""What every trial of a bench stands on: model, tokens and data, read and checked against each other."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from harness.data.columns import Columns
from harness.data.rows import DataSet, load_pairs
from harness.data.sources import check_source
from harness.data.splits import split_pairs
from harness.errors import HarnessError
from harness.records import Gold, HeldOutPrompt, Pair, Splits
from harness.settings import Asked
from harness.tokenised import ChosenRows, TokenRows, within_context
from harness.training.budget import FLOPS_PER_BYTE
from harness.training.machine import choose_device
from harness.training.plan import Terms
from models.decoder import Decoder
from models.families import KNOWN
from models.lora import Lora, parse_lora
from models.low_rank import with_adapter
from models.sources import ModelSource, find_model
from models.tokens import Tokens

LABELLED_PROMPTS = 2  # prompts whose pairs are read for each that is answered: reading is cheap, and narrows intervals
TOLD_ROWS = 250_000
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Ground:
    """The model before any training, the data in its splits, and the terms that plans are made on."""

    source: ModelSource
    model: Decoder  # float32, never trained
    tokens: Tokens
    dataset: DataSet
    splits: Splits
    held_out: tuple[Pair, ...]  # one a prompt: what is completed and judged
    askable: tuple[Pair, ...]  # one a prompt: those, and what could be asked besides
    labelled: tuple[Pair, ...]  # test pairs that every checkpoint gives log-probs
    terms: Terms
    device: torch.device

    def widened(self, prompts: int) -> Ground:
        """The same ground with so many held-out prompts to answer."""
        return dataclasses.replace(self, held_out=self.askable[:prompts])

    @property
    def golds(self) -> dict[str, Gold]:
        """prompt_id → gold, if the data knows the truth of every held-out prompt; else empty."""
        known = {pair.prompt_id: pair.gold for pair in self.held_out if pair.gold is not None}
        return known if len(known) == len(self.held_out) else {}

    @property
    def prompts(self) -> tuple[HeldOutPrompt, ...]:
        """The held-out prompts as the report reads them."""
        return tuple(
            HeldOutPrompt(prompt_id=p.prompt_id, question=p.question, chosen=p.chosen, gold=p.gold)
            for p in self.held_out
        )

    @property
    def rows_digest(self) -> str:
        """Of the training pairs as the model reads them."""
        assert isinstance(self.terms.pair_rows, TokenRows)
        return self.terms.pair_rows.digest

    def fresh(self) -> Decoder:
        """A copy of the model's own weights, to train; with an adapter, the weights themselves, which it shares."""
        adapter = self.terms.adapter
        return copy.deepcopy(self.model) if adapter is None else with_adapter(self.model, adapter)

    def hollow(self) -> Decoder:
        """The same, to be given a checkpoint's weights."""
        return self.model.hollow() if self.terms.adapter is None else self.fresh()


def lay_ground(asked: Asked, root: Path, say: Say) -> Ground:
    """Fetch and read the model and the data. HarnessError or ModelError where they are wrong or do not fit."""
    device = choose_device()
    adapter = parse_lora(asked.adapter) if asked.adapter else None
    Columns.parse(asked.columns)  # a typo is told before the model is read, and a library that is missing
    check_source(asked.data)
    source = find_model(asked.model, root, say)
    if adapter is not None and source.adapted:
        raise HarnessError(
            f"--adapter {asked.adapter} needs a model of {', '.join(KNOWN)}, and transformers computes "
            f"{asked.model!r}: leave --adapter out, or give such a model"
        )
    model, tokens = source.load()
    if adapter is not None:
        adapter.projections(model.architecture)  # refuses a target that the model lacks, before data is read
    dataset = read_data(asked, tokens, root, say)
    dataset = within_context(dataset, tokens, model.architecture.context, asked.max_new_tokens, say)
    splits = split_pairs(dataset)
    prompts = _one_a_prompt(splits.test)
    held_out = prompts[: asked.eval_prompts]
    _refuse_too_few(dataset.name, splits, held_out)
    read = {pair.prompt_id for pair in prompts[: LABELLED_PROMPTS * asked.eval_prompts]}
    return Ground(
        source=source,
        model=model.to(device),
        tokens=tokens,
        dataset=dataset,
        splits=splits,
        held_out=held_out,
        askable=prompts,
        labelled=tuple(pair for pair in splits.test if pair.prompt_id in read),
        terms=_terms(model, tokens, splits, asked.batch_pairs, adapter),
        device=device,
    )


def read_data(asked: Asked, tokens: Tokens, root: Path, say: Say) -> DataSet:
    """The data in the model's template. What was left out of it is said."""

    def tell(rows: int) -> None:
        if rows % TOLD_ROWS == 0:
            say(f"{rows:,} rows of {asked.data} read")

    chat = tokens.render_chat if tokens.chat_template else None
    dataset = load_pairs(asked.data, asked.template, columns=asked.columns, render_chat=chat, cache=root, tell=tell)
    for warning in dataset.warnings:
        say(warning)
    return dataset


def _one_a_prompt(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    first: dict[str, Pair] = {}
    for pair in pairs:
        first.setdefault(pair.prompt_id, pair)
    return tuple(first.values())


def _refuse_too_few(name: str, splits: Splits, held_out: tuple[Pair, ...]) -> None:
    """An interval needs two prompts, and a judge's cross-validation as many as it has folds."""
    for split, prompts, least in (("judge", _one_a_prompt(splits.judge), 4), ("test", held_out, 2)):
        if len(prompts) < least:
            raise HarnessError(
                f"data {name!r} leaves {len(prompts)} different prompts in the {split} split, and at least {least} are "
                "needed: give more rows, with different prompts"
            )


def _terms(model: Decoder, tokens: Tokens, splits: Splits, batch_pairs: int, adapter: Lora | None) -> Terms:
    a, rows = model.architecture, TokenRows(tokens, splits.train)
    return Terms(
        architecture=a,
        weights=sum(p.numel() for p in model.parameters()) if adapter is None else adapter.weights(a),
        pair_rows=rows,
        chosen_rows=ChosenRows(rows),
        batch_pairs=batch_pairs,
        flops_per_byte=FLOPS_PER_BYTE,
        adapter=adapter,
    )
