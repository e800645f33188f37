"""`lm:SRC`: a language model in this process, asked "A or B?" with no training: its next token's probabilities.

They are of the whole vocabulary, so that what the labels have together is exact. The answer is begun for the model, in
the ballot's own words: left to itself, the embedded one says A or B one time in ten, and behind this nineteen times in
twenty. Shapes: N tokens · B rows · D width ·
V vocabulary · L label tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from evals.judges.ballot import SYSTEM, write_ballot
from evals.judges.labels import label_of, read_logprobs
from evals.judges.protocol import Opinion, Question
from models.failure import ModelError
from models.language_model import LanguageModel, read_in_parts
from models.packing import Row, pack

OPENING = "RESPONSE"  # of the answer; a label follows


class ZeroShot:
    """Reads the ballot in the model's own chat template, or plainly where it has none."""

    def __init__(self, model: LanguageModel, model_name: str, *, name: str = "lm") -> None:
        """`model_name` says which weights these are, digest included."""
        self.name = name
        self.description = f"{model_name}, asked A or B without training, multiplied in {model.dtype}"
        self._model = model
        self._labels = _label_tokens(model)

    def p_first_wins(self, questions: Sequence[Question]) -> list[Opinion]:
        """Opinions in the questions' order; what the model cannot read whole is unscored."""
        encoded = [Row(prompt=self._model.tokens.encode_prompt(self.content(question))) for question in questions]
        context = self._model.decoder.architecture.context
        opinions = {
            place: Opinion(
                p_first=None, problem=f"it takes {row.input_tokens:,} tokens, and the model reads {context:,}"
            )
            for place, row in enumerate(encoded)
            if row.input_tokens > context
        }
        places = [place for place in range(len(encoded)) if place not in opinions]
        rows = [encoded[place] for place in places]
        for part, found in read_in_parts(rows, self._model.rooms.reading, self._read):
            for i, opinion in zip(part, found, strict=True):
                opinions[places[i]] = opinion
        return [opinions[place] for place in range(len(encoded))]

    def content(self, question: Question) -> str:
        """The prompt: all that an answer hangs on besides the model."""
        return write_prompt(question, self._model)

    def _read(self, rows: list[Row]) -> list[Opinion]:
        texts, ids = list(self._labels.values()), list(self._labels)
        logps_BL = next_logps(self._model, rows)[:, ids].tolist()
        return [read_logprobs(zip(texts, logps_L, strict=True)) for logps_L in logps_BL]


def write_prompt(question: Question, model: LanguageModel) -> str:
    """The ballot as the model expects to be spoken to, and the answer's opening."""
    ballot = write_ballot(question)
    if model.tokens.chat_template is None:
        return f"{SYSTEM}\n\n{ballot}\n\nAnswer: {OPENING}"
    try:
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": ballot}]
        return model.tokens.render_chat(messages) + OPENING
    except ModelError:  # some templates know no system
        return model.tokens.render_chat([{"role": "user", "content": f"{SYSTEM}\n\n{ballot}"}]) + OPENING


@torch.no_grad()
def next_logps(model: LanguageModel, rows: Sequence[Row]) -> Tensor:
    """Log-probs of each prompt's next token over the whole vocabulary, (B, V) float32 nats."""
    batch = pack(rows).to(model.decoder.device)
    hidden_ND, _ = model.decoder(batch.tokens_N, batch.positions_N, batch.attend, dtype=model.dtype)
    own_B = torch.tensor([len(row.prompt) - batch.prefix for row in rows], device=hidden_ND.device)
    last_BD = hidden_ND[batch.prefix + own_B.cumsum(0) - 1].to(model.dtype)
    logits_BV = model.decoder.logits(last_BD).float()
    return logits_BV.log_softmax(-1)


def _label_tokens(model: LanguageModel) -> dict[int, str]:
    """Every token that spells A or B, and how."""
    tokens, size = model.tokens, model.decoder.architecture.vocabulary
    control = set(tokens.special.values())
    known = (token for token in range(min(size, tokens.highest + 1)) if token not in control)
    spelt = ((token, tokens.decode((token,))) for token in known)
    return {token: text for token, text in spelt if label_of(text) is not None}
