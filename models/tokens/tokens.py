"""A model's vocabulary: text to token ids and back, prompts in their template, and the way to other tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from models.failure import ModelError
from models.tokens.chat import Chat
from models.tokens.marks import CHAT, MARK, pieces
from models.tokens.origin import Origin


class Speller(Protocol):
    """How text is cut into tokens. Two ways: `Ranked` (tiktoken) and `Library` (Hugging Face's tokenizers)."""

    @property
    def highest(self) -> int:
        """The largest id."""

    def encode(self, text: str) -> list[int]:
        """Ids of plain text, in which special tokens are text; there is no MARK in it."""

    def encode_pieces(self, parts: Sequence[tuple[str, int | None]]) -> list[int]:
        """Ids of text and control tokens in turn; each control token comes with its id."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, none of them control; what is no token is left out, what is no UTF-8 becomes U+FFFD."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """A model's vocabulary. Special tokens written in a text are text, never control."""

    speller: Speller = field(repr=False)
    end: int  # id of the token that ends a response
    special: Mapping[str, int]
    begin: tuple[int, ...] = ()  # ids that the tokenizer puts before a text, such as <s>
    chat_template: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)  # bos_token, eos_token …, as a chat template knows them
    origin: Origin | None = field(default=None, repr=False)  # what is written back; None where it was made by hand

    @property
    def highest(self) -> int:
        """The largest id of all tokens: the model needs an embedding for each."""
        return max(self.speller.highest, self.end, *self.special.values())

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of plain text; nothing is put before or after it."""
        return tuple(self.speller.encode(text.replace(MARK, "")))

    def encode_prompt(self, text: str) -> tuple[int, ...]:
        """Token ids of a prompt in its template; marked special tokens (see `render_chat`) are control tokens.

        A plain text begins as the tokenizer begins one (`begin`). A chat template writes such a token itself where its
        model wants one, so nothing is put before a rendered chat; `transformers` does the same.
        """
        parts = list(pieces(text, self.special))
        rendered = text.startswith(CHAT) or any(control is not None for _, control in parts)
        return (*(() if rendered else self.begin), *self.speller.encode_pieces(parts))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, special tokens left out; bytes that are no UTF-8 become U+FFFD."""
        control = set(self.special.values())
        return self.speller.decode([i for i in ids if i not in control])

    def render_chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Messages in the model's chat template, ready for the answer, with MARK around each control token.

        What people wrote cannot become control. ModelError where the template refuses the messages or fails.
        """
        if self.chat_template is None:
            raise ModelError("this model has no chat template: bring text prompts, or --template alpaca")
        said = Chat(template=self.chat_template, special=tuple(self.special), names=self.names).render(messages)
        return CHAT + said if self.begin and MARK not in said else said

    def write_folder(self, folder: Path) -> None:
        """Write tokenizer.json, tokenizer_config.json and what belongs to them, for `transformers` to load.

        From a folder they are the files that were read; else they are made, with the same ids and the same chat.
        """
        self._known_origin().write(folder)

    def gguf_fields(self) -> dict[str, Any]:
        """The `tokenizer.…` keys and values of a GGUF file; ModelError where GGUF has no such tokenizer."""
        from models.tokens.gguf_fields import fields_of  # which needs this class

        return fields_of(self, self._known_origin())

    def _known_origin(self) -> Origin:
        if self.origin is None:
            raise ModelError("these tokens were made without a tokenizer's description: nothing can be written of them")
        return self.origin
