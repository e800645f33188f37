"""Any tokenizer that Hugging Face's `tokenizers` knows: SentencePiece BPE, Unigram, and what tiktoken cannot do."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer

from models.tokens.marks import MARK, marked
from models.tokens.origin import Description


class Library:
    """A tokenizer whose special tokens answer to their marked names only, so that in a text they are text."""

    def __init__(self, description: Description, special: Iterable[str]) -> None:
        """ValueError where `tokenizers` does not take the description."""
        self._tokenizer = _built(_with_marked_names(description, set(special)))
        self.highest = max(self._tokenizer.get_vocab(with_added_tokens=True).values())

    def encode(self, text: str) -> list[int]:
        """Ids of plain text."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def encode_pieces(self, parts: Sequence[tuple[str, int | None]]) -> list[int]:
        """Ids of text and control tokens in turn: at once, since a tokenizer may begin a text otherwise than go on."""
        return self.encode("".join(text if control is None else marked(text) for text, control in parts))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True)).replace(MARK, "")


def _built(description: Description) -> Tokenizer:
    try:
        return Tokenizer.from_str(json.dumps(description))
    except Exception as error:  # the library raises no narrower kind
        raise ValueError(f"tokenizers: {error}") from error


def _with_marked_names(description: Description, special: set[str]) -> Description:
    """The same tokenizer under other names for its special tokens, which adds nothing to a text by itself."""
    model = dict(description["model"])

    def name(token: str) -> str:
        return marked(token) if token in special else token

    vocabulary = model["vocab"]
    if isinstance(vocabulary, Mapping):
        model["vocab"] = {name(token): i for token, i in vocabulary.items()}
    else:  # Unigram's pieces, each with its score
        model["vocab"] = [[name(piece), score] for piece, score in vocabulary]
    if isinstance(model.get("unk_token"), str):
        model["unk_token"] = name(model["unk_token"])
    if "merges" in model:
        model["merges"] = [merge for merge in model["merges"] if not _joined(merge, special)]
    added = copy.deepcopy(description.get("added_tokens", []))
    for token in added:
        token["content"] = name(token["content"])
    nothing: dict[str, Any] = {"post_processor": None, "truncation": None, "padding": None}
    return {**description, **nothing, "model": model, "added_tokens": added}


def _joined(merge: str | Sequence[str], special: set[str]) -> bool:
    left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
    return bool({left, right, left + right} & special)
