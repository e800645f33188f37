"""What names a model of the Hugging Face Hub: `hf:ORG/NAME@REVISION`, or a short name of the GPT-2 family."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from models.failure import ModelError

# What the GPT-2 family is called everywhere. No folder of the same name can hide them.
SHORT_NAMES = {
    "gpt2": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "gpt2-xl": "openai-community/gpt2-xl",
    "distilgpt2": "distilbert/distilgpt2",
}
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_REVISION = r"(?:@(?P<revision>[^\s@\\]+))?"
_PATTERN = re.compile(rf"hf:(?P<repo>{_PART}/{_PART}){_REVISION}")
_SHORT = re.compile(rf"(?:hf:)?(?P<name>{'|'.join(SHORT_NAMES)}){_REVISION}")
# Ways to say the same that are not ours: a web address, the Hub's own URIs, other separators.
_OTHERWISE = re.compile(
    rf"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co|hf|huggingface|hub)?[:/]*"
    rf"(?P<repo>{_PART}/{_PART})(?:(?:/(?:tree|blob|resolve)/|[@:#])(?P<revision>[^\s@:#/]+)(?:/.*)?)?/?",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class HubModel:
    """A repository of the Hub at a revision: branch, tag or commit."""

    repo: str
    revision: str | None = None

    @property
    def spec(self) -> str:
        """As the user may write it."""
        return f"hf:{self.repo}" + (f"@{self.revision}" if self.revision else "")

    @property
    def page(self) -> str:
        return f"https://huggingface.co/{self.repo}"


def hub_model(source: str) -> HubModel | None:
    """The repository that a source names; None if it is another kind of source, ModelError if it is misspelt."""
    if found := _PATTERN.fullmatch(source):
        return HubModel(repo=found["repo"], revision=found["revision"])
    if found := _SHORT.fullmatch(source):
        return HubModel(repo=SHORT_NAMES[found["name"]], revision=found["revision"])
    if re.match(r"hf:|(https?://)?(www\.)?(huggingface\.co|hf\.co)/", source, re.IGNORECASE):
        hint = suggestion(source) or "write hf:ORG/NAME or hf:ORG/NAME@REVISION"
        raise ModelError(f"model {source!r} names no repository of the Hub: {hint}")
    return None


def suggestion(source: str) -> str | None:
    """What was probably meant by something that looks like a model of the Hub, as `did you mean …?`."""
    if close := difflib.get_close_matches(source.removeprefix("hf:").lower(), SHORT_NAMES, 1, 0.6):
        return f"did you mean {close[0]!r}?"
    found = _OTHERWISE.fullmatch(source.strip().replace(" ", ""))
    if found is None:
        return None
    return f"did you mean {HubModel(repo=found['repo'], revision=found['revision']).spec!r}?"
