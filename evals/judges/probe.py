"""The embedded judge: a Bradley-Terry reward head on a frozen language model, fitted on the judge split.

Features of a response: mean hidden states at two middle layers, the last token's at the top, its log-probs given the
prompt (mean, sum, maximum) and its length. (Log-probs without the prompt added nothing for twice the reading:
docs/log.md.) The head is fitted on labelled pairs and on contrast responses: chosen and rejected each beat another
prompt's response, a constant, an opener on another's answer, the question said again, and nothing or one word without
end. Without the contrasts it falls for manners alone (an opener on another prompt's answer beats the right one) and for
an endless "A".
Shapes: N tokens · M response tokens · R responses · D width · F features.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_expit
from torch import Tensor

from evals.judges.contrast import fitting_contrasts
from evals.judges.protocol import Opinion, Question
from evals.statistics import share_interval
from harness.errors import HarnessError
from harness.records import Pair, Score
from models.language_model import LanguageModel, make_row, read_in_parts
from models.logprobs import by_response, target_logps
from models.packing import Packed, Row, pack

FIT_PAIRS = 320  # labelled pairs read at most: each costs seven responses
RIDGE = 1e-2  # settled in docs/log.md
LABELLED_WEIGHT = 3  # of a labelled pair against a contrast, of which there are ten a pair
FOLDS = 4

Floats = NDArray[np.float64]


class Probe:
    """Judges by the fitted head: P(first wins) = σ(reward(first) − reward(second)), the same in both orders."""

    def __init__(self, model: LanguageModel, model_name: str, *, name: str = "probe") -> None:
        """`model_name` says which weights these are, digest included."""
        self.name = name
        self.description = f"Bradley-Terry reward head on frozen {model_name}"
        self._model = model
        self._scale: Floats = np.ones(1)
        self._head: Floats = np.zeros(1)
        self.cross_validated: Score | None = None  # accuracy on its fitting pairs, by heads that had not seen them

    def save(self, path: Path) -> None:
        """Keep what was fitted, so that it is not fitted again."""
        assert self.cross_validated is not None, "fit it first"
        told = {"description": self.description, "cross_validated": json.dumps(asdict(self.cross_validated))}
        save_file({"head": self._head, "scale": self._scale}, path, metadata=told)

    def restore(self, path: Path) -> None:
        """Be the probe that was saved; HarnessError where the file is damaged."""
        try:
            with safe_open(path, framework="numpy") as file:
                self._head, self._scale = file.get_tensor("head"), file.get_tensor("scale")
                told = file.metadata()
                self.description = told["description"]
                self.cross_validated = Score(**json.loads(told["cross_validated"]))
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise HarnessError(f"{path} is damaged ({error}): delete it and run again") from error

    def fit(self, pairs: Sequence[Pair], *, seed: int) -> Probe:
        """Fit on labelled pairs and contrasts made from them; the scale of its odds is cross-validated by prompt."""
        pairs = pairs[:FIT_PAIRS]
        wins = [_Win(p.prompt_id, p.question, p.chosen, p.rejected) for p in pairs]
        for contrast in fitting_contrasts(pairs, seed=seed):
            p = contrast.pair
            wins += [_Win(p.prompt_id, p.question, y, contrast.text) for y in (p.chosen, p.rejected)]
        features = self._read([(w.question, text) for w in wins for text in (w.better, w.worse)])
        better_WF = np.stack([features[w.question, w.better] for w in wins])
        worse_WF = np.stack([features[w.question, w.worse] for w in wins])
        self._scale = np.concatenate((better_WF, worse_WF)).std(axis=0) + 1e-6
        differences_WF = (better_WF - worse_WF) / self._scale
        weights_W = np.where(np.arange(len(wins)) < len(pairs), LABELLED_WEIGHT, 1).astype(float)
        prompt_ids = [w.prompt_id for w in wins]
        margins_W = _unseen_margins(differences_WF, weights_W, prompt_ids)
        self._head = _fit_head(differences_WF, weights_W) * _calibration(margins_W, weights_W)
        ranked = ((np.sign(margins_W[: len(pairs)]) + 1) / 2).tolist()
        self.cross_validated = share_interval(ranked, clusters=prompt_ids[: len(pairs)])
        self.description += f", fitted on {len(pairs)} labelled pairs and {len(wins) - len(pairs)} contrasts"
        return self

    def p_first_wins(self, questions: Sequence[Question]) -> list[Opinion]:
        """P(first wins) for each question, from these questions alone: what was asked before leaves no trace."""
        features = self._read([(q.question, text) for q in questions for text in (q.first, q.second)])
        rewards = {asked: float((found / self._scale) @ self._head) for asked, found in features.items()}
        margins = [rewards[q.question, q.first] - rewards[q.question, q.second] for q in questions]
        return [Opinion(p_first=float(expit(margin))) for margin in margins]

    def _read(self, asked: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Floats]:
        """Features of each (question, response); the responses to one question share a row."""
        wanted: dict[str, list[str]] = {}
        for question, response in sorted(set(asked)):  # the order of asking changes no rounding
            wanted.setdefault(question, []).append(response)
        features: dict[tuple[str, str], Floats] = {}
        questions = list(wanted)
        rows = [make_row(self._model.tokens, as_prompt(q, self._model), wanted[q]) for q in questions]
        self._refuse_too_long(questions, rows)
        read = functools.partial(response_features, self._model)
        for part, found_RF in read_in_parts(rows, self._model.rooms.reading, read):
            values_RF = iter(found_RF)
            for i in part:
                for response in wanted[questions[i]]:
                    features[questions[i], response] = next(values_RF)
        return features

    def _refuse_too_long(self, questions: Sequence[str], rows: Sequence[Row]) -> None:
        context = self._model.decoder.architecture.context
        for question, row in zip(questions, rows, strict=True):
            longest = len(row.prompt) + max(map(len, row.responses))
            if longest > context:
                raise HarnessError(
                    f"judge {self.name!r} reads at most {context:,} tokens, and {question[:60]!r} takes {longest:,} "
                    "with a response: choose a judge with a longer context, or shorten that row"
                )


class _Win(NamedTuple):
    prompt_id: str
    question: str
    better: str
    worse: str


def as_prompt(question: str, model: LanguageModel) -> str:
    """The question in the judge's own chat template, or plainly where it has none."""
    if model.tokens.chat_template is None:
        return f"Question: {question}\nAnswer: "
    return model.tokens.render_chat([{"role": "user", "content": question}])


@torch.no_grad()
def response_features(model: LanguageModel, rows: Sequence[Row]) -> Floats:
    """Features of every response of the rows, (R, F)."""
    depth = model.decoder.architecture.depth
    device = model.decoder.device
    asked = pack(rows, read_last=True).to(device)
    final_ND, middle = model.decoder(
        asked.tokens_N, asked.positions_N, asked.attend, dtype=model.dtype, keep=(depth // 2, 2 * depth // 3)
    )
    logps_M = target_logps(final_ND, model.decoder.head, asked, dtype=model.dtype)
    own_M = _own_places(asked)
    means = [_mean(layer_ND[own_M], asked) for layer_ND in middle]
    lengths_R = torch.bincount(asked.response_M, minlength=asked.responses).float()
    columns = [
        *means,
        final_ND[asked.ends_R],
        torch.stack([*_summaries(logps_M, asked), lengths_R.log()], dim=1),
    ]
    return torch.cat(columns, dim=1).double().cpu().numpy()


def _own_places(batch: Packed) -> Tensor:
    """Where each response token itself was read: it is what predicts the next, and the last is its response's end."""
    places_M = batch.sources_U[batch.places_M].roll(-1)
    last_R = torch.bincount(batch.response_M, minlength=batch.responses).cumsum(0) - 1
    return places_M.index_copy(0, last_R, batch.ends_R)


def _mean(values_MD: Tensor, batch: Packed) -> Tensor:
    counts_R = torch.bincount(batch.response_M, minlength=batch.responses)
    sums_RD = values_MD.new_zeros(batch.responses, values_MD.shape[1]).index_add(0, batch.response_M, values_MD)
    return sums_RD / counts_R[:, None]


def _summaries(logps_M: Tensor, batch: Packed) -> list[Tensor]:
    """Mean, sum and maximum of each response's token log-probs, (R,) each."""
    mean_R = _mean(logps_M[:, None], batch)[:, 0]
    sum_R = by_response(logps_M, batch)
    most_R = logps_M.new_full((batch.responses,), -torch.inf).scatter_reduce(0, batch.response_M, logps_M, "amax")
    return [mean_R, sum_R, most_R]


def _fit_head(differences_WF: Floats, weights_W: Floats) -> Floats:
    """The head that minimises the weighted mean Bradley-Terry loss −log σ(h·d) + RIDGE·|h|²/2."""

    def loss(head: Floats) -> tuple[float, Floats]:
        margins = differences_WF @ head
        value = -np.average(log_expit(margins), weights=weights_W) + RIDGE * head @ head / 2
        slope = -(weights_W * expit(-margins)) @ differences_WF / weights_W.sum() + RIDGE * head
        return float(value), slope

    start = np.zeros(differences_WF.shape[1])
    found: Floats = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    return found


def _unseen_margins(differences_WF: Floats, weights_W: Floats, prompt_ids: Sequence[str]) -> Floats:
    """Margins by heads fitted without the fold that they are measured on, folds cut by prompt."""
    order = {prompt_id: n for n, prompt_id in enumerate(dict.fromkeys(prompt_ids))}
    fold_W = np.array([order[p] % FOLDS for p in prompt_ids])
    margins_W = np.zeros(len(fold_W))
    for fold in range(FOLDS):
        out = fold_W == fold
        margins_W[out] = differences_WF[out] @ _fit_head(differences_WF[~out], weights_W[~out])
    return margins_W


def _calibration(margins_W: Floats, weights_W: Floats) -> float:
    """The factor that makes margins on unseen prompts honest log-odds: a P(win) of 0.8 is right 80% of the time.

    Labelled pairs weigh as in the fit (temperature scaling, arXiv:1706.04599).
    """
    found = minimize_scalar(
        lambda log_factor: -np.average(log_expit(np.exp(log_factor) * margins_W), weights=weights_W),
        bounds=(-4.0, 2.0),
        method="bounded",
    )
    return float(np.exp(found.x))
