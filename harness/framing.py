"""How a bench's model is spoken to, in the words of other tools: a chat template for tokenizers, one for Ollama."""

from __future__ import annotations

import json
from dataclasses import dataclass

from harness.data.prompts import Ask
from harness.data.templates import render_prompt
from harness.errors import HarnessError
from models.tokens import MARK, Tokens

_SLOT = "\ue000the question\ue001"  # private characters: in no template


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What stands around a question where the model reads it, and what ends its response."""

    template: str  # "chat": the model's own; "alpaca" or "plain", which no tokenizer knows
    begin: str  # control tokens that come first
    before: str
    after: str
    end: str
    opening: str = ""  # control tokens that a tokenizer puts before every text by itself

    @property
    def jinja(self) -> str:
        """The chat template of a bench whose prompts were no chats: the same prompt from one user's message."""
        begin, before, after, end = (json.dumps(part) for part in (self.begin, self.before, self.after, self.end))
        return (
            f"{{{{ {begin} }}}}{{% for message in messages %}}"
            f"{{% if message['role'] == 'user' %}}{{{{ {before} + message['content'] + {after} }}}}"
            f"{{% elif message['role'] == 'assistant' %}}{{{{ message['content'] + {end} }}}}"
            "{% else %}{{ message['content'] + '\\n\\n' }}{% endif %}{% endfor %}"
        )

    @property
    def go(self) -> str:
        """The same for Ollama, in Go's words; what comes first is in the GGUF file already."""
        parts = (self.before.removeprefix(self.opening), self.after, self.end)
        before, after, end = (part.replace("{{", '{{ "{{" }}') for part in parts)
        return f"{before}{{{{ .Prompt }}}}{after}{{{{ .Response }}}}{end}"

    def modelfile(self, weights: str) -> str:
        """Ollama's Modelfile for a GGUF file beside it: greedy, as responses were judged."""
        if '"""' in self.go:
            raise HarnessError('the chat template has """ in it, which no Modelfile can say: export with --to hf')
        lines = [f"FROM ./{weights}", f'TEMPLATE """{self.go}"""', "PARAMETER temperature 0"]
        if self.end:
            lines.append(f"PARAMETER stop {json.dumps(self.end, ensure_ascii=False)}")
        return "\n".join(lines) + "\n"


def frame_of(template: str, tokens: Tokens) -> Frame:
    """The frame of one of the named templates; HarnessError where a template has no one place for a question."""
    parts = render_prompt(template, Ask(instruction=_SLOT), tokens.render_chat).split(_SLOT)
    if len(parts) != 2:
        raise HarnessError(
            f"the template {template!r} writes a question {len(parts) - 1} times, so no other tool can be told how to "
            "ask: take the weights from the run's cache instead"
        )
    before, after = (part.replace(MARK, "") for part in parts)
    names = {number: name for name, number in tokens.special.items()}
    opening = "".join(names[number] for number in tokens.begin)
    begin = "" if MARK in "".join(parts) else opening
    end = names.get(tokens.end, "")
    return Frame(template=template, begin=begin, before=before, after=after, end=end, opening=opening)
