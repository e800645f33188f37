"""Chat templates: rendered as `transformers` renders them, in a sandbox, their control tokens told from people's words.

Departs in one thing: a template that asks for today's date is told a fixed one, so that a prompt is the same tomorrow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NoReturn

from jinja2 import TemplateError, nodes

from models.failure import ModelError
from models.tokens.jinja import compiled, with_marked_words
from models.tokens.marks import MARK, any_of, marked

Message = Mapping[str, str]
ROLES = ("system", "developer", "user", "assistant", "tool", "function", "model", "ipython")
WAY_OUT = "try --template alpaca"
_SAID = "Zq7Zq"  # what the assistant says where a template is tried out


@dataclass(frozen=True, kw_only=True)
class Chat:
    """One template, and the special tokens that it may write."""

    template: str
    special: tuple[str, ...]
    names: Mapping[str, str] = field(default_factory=dict)  # bos_token, eos_token …

    def render(self, messages: Sequence[Message]) -> str:
        """The messages up to where the answer begins, with MARK around each of the template's own control tokens."""
        clean = [{"role": m["role"].replace(MARK, ""), "content": m["content"].replace(MARK, "")} for m in messages]
        for message in clean:
            _refuse_odd(message["role"], self.special)
        self._refuse_unready(tuple(m["role"] for m in clean))
        truth = self._text(self.template, clean)
        for text in (self._held_out(clean), self._marked_in_template(clean)):
            if text is not None and text.replace(MARK, "") == truth:
                return text
        raise ModelError(
            "the model's chat template failed (it rewrites what people wrote, control tokens in it too, so the two "
            f"cannot be told apart): {WAY_OUT}"
        )

    def ending(self) -> str | None:
        """The special token with which the template ends what the assistant says; None where it ends with none."""
        messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _SAID}]
        pattern = any_of(self.special)
        try:
            said = self._text(self.template, messages, opened=False).rpartition(_SAID)
        except ModelError:
            return None
        found = pattern.match(said[2].lstrip()) if pattern and said[1] else None
        return found[0] if found else None

    def _text(self, template: str | nodes.Template, messages: Sequence[Message], *, opened: bool = True) -> str:
        """What the template makes of the messages. ModelError where it fails or refuses them."""
        marks = isinstance(template, nodes.Template)
        names = {key: marked(name) if marks and name in self.special else name for key, name in self.names.items()}
        try:
            return compiled(template).render(
                messages=[dict(m) for m in messages],
                add_generation_prompt=opened,
                tools=None,
                documents=None,
                **names,
            )
        except Exception as error:  # the template is the model's own code
            _fail(error, messages)

    def _held_out(self, messages: Sequence[Message]) -> str:
        """Each content's place is held while the template runs; white space at its ends stays, which templates strip.

        Control tokens that the template puts together of parts are found too. What it does by a content it misses.
        """
        pattern, cores = any_of(self.special), {str(n): m["content"].strip() for n, m in enumerate(messages)}

        def filled(found: re.Match[str]) -> str:
            return cores.get(found[1], "") if found[1] else marked(found[0])

        # In one pass, so that what was filled in is never looked at again.
        places = f"{MARK}([0-9]+){MARK}" + (f"|{pattern.pattern}" if pattern else "")
        return re.sub(places, filled, self._text(self.template, _places(messages)))

    def _marked_in_template(self, messages: Sequence[Message]) -> str | None:
        """The template's own words carry the marks, and contents none; None where it puts control tokens together."""
        template, pattern = with_marked_words(self.template, self.special), any_of(self.special)

        def unmarked(text: str) -> bool:
            return bool(pattern and pattern.search(re.sub(f"{MARK}[^{MARK}]*{MARK}", MARK, text)))

        text = self._text(template, messages)
        return None if unmarked(text) and unmarked(self._text(template, _places(messages))) else text

    def _refuse_unready(self, roles: tuple[str, ...]) -> None:
        _refuse_unready(self.template, self.special, tuple(self.names.items()), roles)


def _places(messages: Sequence[Message]) -> list[dict[str, str]]:
    """The same messages with a number between marks for what each says, but for the white space around it."""
    cores = [m["content"].strip() for m in messages]
    return [
        {**m, "content": m["content"].replace(core, f"{MARK}{n}{MARK}", 1) if core else m["content"]}
        for n, (m, core) in enumerate(zip(messages, cores, strict=True))
    ]


@lru_cache(maxsize=256)
def _refuse_unready(
    template: str, special: tuple[str, ...], names: tuple[tuple[str, str], ...], roles: Sequence[str]
) -> None:
    """ModelError where the template does not open the assistant's turn after messages of such roles."""
    chat = Chat(template=template, special=special, names=dict(names))
    messages = [{"role": role, "content": f"x{n}"} for n, role in enumerate(roles)]
    opened = chat._text(template, messages)
    if opened != chat._text(template, messages, opened=False):
        return
    try:  # such as [INST] … [/INST], after which the answer follows anyway
        told = chat._text(template, [*messages, {"role": "assistant", "content": _SAID}], opened=False)
    except ModelError:
        told = ""
    if not (told.startswith(opened) and told[len(opened) :].lstrip().startswith(_SAID)):
        raise ModelError(
            "the model's chat template opens no turn for the assistant (it has no add_generation_prompt): bring a "
            f"model whose template does, or {WAY_OUT}"
        )


def _refuse_odd(role: str, special: Sequence[str]) -> None:
    """ModelError for a role that is no word, or would make a control token in a template that builds these of roles."""
    if not re.fullmatch(r"\w{1,40}", role):
        raise ModelError(f"a message has the role {role!r}, which is no word: name it user or assistant")
    if role not in ROLES and any(re.sub(r"\W", "", name) == role for name in special):
        raise ModelError(f"a message has the role {role!r}, which names a control token: name it user or assistant")


def _fail(error: Exception, messages: Sequence[Message]) -> NoReturn:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    if type(error) is TemplateError:  # its own raise_exception
        roles = ", ".join(m["role"] for m in messages)
        raise ModelError(
            f"the model's chat template refuses messages by {roles[:80]} ({reason}): leave the refused one out of the "
            f"data, or {WAY_OUT}"
        ) from error
    raise ModelError(f"the model's chat template failed ({reason}): {WAY_OUT}") from error
