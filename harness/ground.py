"""What every trial of a bench stands on: model, tokens and data, read and checked against each other."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from harness.data.rows import DataSet, load_pairs
from harness.data.splits import split_pairs
from harness.errors import HarnessError
from harness.records import Gold, HeldOutPrompt, Pair, Splits
from harness.settings import Asked
from harness.training.budget import FLOPS_PER_BYTE
from harness.training.machine import choose_device
from harness.training.plan import Terms
from models.decoder import Decoder
from models.language_model import make_row
from models.sources import ModelSource, find_model
from models.tokens import Tokens

LABELLED_PROMPTS = 2  # prompts whose pairs are read for each that is answered: reading is cheap, and narrows intervals
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

    def fresh(self) -> Decoder:
        """A copy of the model's own weights, to train."""
        return copy.deepcopy(self.model)


def lay_ground(asked: Asked, root: Path, say: Say) -> Ground:
    """Fetch and read the model and the data. HarnessError or ModelError where they are wrong or do not fit."""
    device = choose_device()
    source = find_model(asked.model, root, say)
    model, tokens = source.load()
    dataset = load_pairs(asked.data, asked.template, render_chat=tokens.render_chat, cache=root)
    for warning in dataset.warnings:
        say(warning)
    splits = split_pairs(dataset)
    _refuse_too_long(model.architecture.context, tokens, splits, asked.max_new_tokens)
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
        terms=_terms(model, tokens, splits, asked.batch_pairs),
        device=device,
    )


def _one_a_prompt(pairs: tuple[Pair, ...]) -> tuple[Pair, ...]:
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


def _terms(model: Decoder, tokens: Tokens, splits: Splits, batch_pairs: int) -> Terms:
    return Terms(
        architecture=model.architecture,
        weights=sum(p.numel() for p in model.parameters()),
        pair_rows=[make_row(tokens, p.prompt, (p.chosen, p.rejected)) for p in splits.train],
        chosen_rows=[make_row(tokens, p.prompt, (p.chosen,)) for p in splits.train],
        batch_pairs=batch_pairs,
        flops_per_byte=FLOPS_PER_BYTE,
    )


def _refuse_too_long(context: int, tokens: Tokens, splits: Splits, new_tokens: int) -> None:
    for pair in (*splits.train, *splits.judge, *splits.test):
        row = make_row(tokens, pair.prompt, (pair.chosen, pair.rejected))
        longest = len(row.prompt) + max(*(len(y) for y in row.responses), new_tokens)
        if longest > context:
            raise HarnessError(
                f"the prompt {pair.question[:60]!r} takes {longest:,} tokens with its response, and the model's "
                f"context is {context:,}: shorten or drop that row, or choose a model with a longer context"
            )
