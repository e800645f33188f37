"""What a row asks, before any template: the question as a person wrote it, and the identity of a prompt."""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass

Message = dict[str, str]  # role and content, as chat templates read them


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One row's request: an instruction with an optional input, or the messages of a conversation."""

    instruction: str = ""
    input: str = ""
    messages: tuple[Message, ...] = ()

    @property
    def question(self) -> str:
        """The request as a person would read it; speakers are named where there are several messages."""
        if not self.messages:
            return "\n\n".join(part for part in (self.instruction, self.input) if part.strip())
        if len(self.messages) == 1:
            return self.messages[0]["content"]
        return "\n\n".join(f"{message['role']}: {message['content']}" for message in self.messages)


def prompt_id_of(question: str) -> str:
    """16 hex digits that are the same for questions differing only in case, spacing or Unicode form."""
    return hashlib.sha256(" ".join(folded_words(question)).encode()).hexdigest()[:16]


def folded_words(question: str) -> list[str]:
    """Its words, without case and in one Unicode form."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", question).casefold()).split()
