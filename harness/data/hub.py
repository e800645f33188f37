"""Data sets of the Hugging Face Hub: `hf:ORG/NAME:split`, streamed through the `datasets` library.

HF_HOME, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE are honoured by that library. Without a network it reads what its
cache holds.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from harness import store
from harness.data.numbered import NumberedRow
from harness.data.optional import optional
from harness.errors import HarnessError

PREFIX = "hf:"
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_PATTERN = re.compile(
    rf"hf:(?P<repo>{_PART}/{_PART})(?:/(?P<config>[^\s/@:]+))?(?:@(?P<revision>[^\s@:]+))?(?::(?P<split>[\w.-]+))?"
)
_TRUE = {"1", "on", "yes", "true"}


@dataclass(frozen=True, kw_only=True)
class HubSet:
    """A data set of the Hub: which of its configurations, at which revision, which of its splits."""

    name: str  # as it was asked for
    repo: str
    config: str | None
    revision: str | None
    split: str | None

    @classmethod
    def parse(cls, name: str) -> HubSet:
        """From `hf:ORG/NAME/CONFIG@REVISION:split`, of which only ORG/NAME has to be there."""
        found = _PATTERN.fullmatch(name)
        if found is None:
            raise HarnessError(
                f"{name!r} is no data set of the Hub: write hf:ORG/NAME:split, or hf:ORG/NAME/CONFIG@REVISION:split"
            )
        return cls(name=name, **found.groupdict())

    def open(self) -> HubRows:
        """Ask for the set; HarnessError where it is absent, gated, out of reach, or has no such split."""
        datasets = optional("datasets", f"data {self.name!r}")
        datasets.disable_progress_bars()
        revision = self._commit()
        try:
            found = datasets.load_dataset(
                self.repo, self.config, revision=revision, split=self.split, streaming=not _offline()
            )
        except Exception as error:  # the library raises whatever its many readers do
            raise self._unusable(error) from error
        if isinstance(found, dict):
            name = self._only_split(list(map(str, found)))
            found = found[name]
        return HubRows(hub=self, commit=revision, rows=found)

    def _only_split(self, names: list[str]) -> str:
        if len(names) == 1:
            return names[0]
        preference = [name for name in names if name.startswith("train")]
        meant = preference[0] if preference else names[0]
        raise HarnessError(
            f"data {self.name!r} has the splits {', '.join(names)}: say which, as {self.name}:{meant}; "
            "ours are drawn from it"
        )

    def _commit(self) -> str | None:
        """The commit that the revision is now, where the Hub can be asked: contents are kept by it."""
        hub = optional("huggingface_hub", f"data {self.name!r}")
        try:
            commit: str | None = hub.HfApi().dataset_info(self.repo, revision=self.revision, timeout=10).sha
        except Exception:  # whatever is wrong, the set itself is asked for next, and says it
            return self.revision
        return commit or self.revision

    def _unusable(self, error: Exception) -> HarnessError:
        kind, reason = type(error).__name__, " ".join(str(error).split())[:200]
        page = f"https://huggingface.co/datasets/{self.repo}"
        if "gated" in reason.lower():
            return HarnessError(
                f"data {self.name!r} is gated: ask for access on {page}, then set HF_TOKEN to a token of yours"
            )
        known = re.findall(r"'([^']+)'", reason.partition("[")[2])
        for asked in (self.split, self.config):
            close = difflib.get_close_matches(asked or "", known, 1, 0.4)
            if close and asked not in known:
                return HarnessError(f"data {self.name!r} has no {asked!r}: did you mean {close[0]!r}? {reason}")
        if _offline():
            return HarnessError(
                f"data {self.name!r} is not in the cache and HF_HUB_OFFLINE forbids to fetch it ({kind}): "
                "unset it, or give a file"
            )
        if kind in ("DatasetNotFoundError", "RepositoryNotFoundError"):
            return HarnessError(
                f"data {self.name!r}: no such data set on the Hub, or a private one: check {page}, or set HF_TOKEN"
            )
        return HarnessError(f"data {self.name!r} cannot be read ({kind}: {reason}): check it on {page}, or give a file")


def _offline() -> bool:
    return any(os.environ.get(name, "").lower() in _TRUE for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"))


@dataclass(frozen=True, kw_only=True)
class HubRows:
    """A split that answered, ready to be read."""

    hub: HubSet
    commit: str | None
    rows: Any  # of `datasets`: each a dictionary

    @property
    def name(self) -> str:
        return self.hub.name

    @property
    def bytes(self) -> int | None:
        """Not known before it is read."""
        return None

    @property
    def split_files(self) -> tuple[str, ...]:
        """None: one split was asked for."""
        return ()

    @property
    def digest(self) -> None:
        """That of the rows, once they are read: a commit is not known on every machine, nor without a network."""
        return None

    @property
    def key(self) -> str | None:
        """What pins the rows; None where neither a commit nor the library's own fingerprint does."""
        if self.commit is not None and re.fullmatch(r"[0-9a-f]{40}", self.commit):
            return store.digest("hub", self.hub.repo, self.hub.config, self.hub.split, self.commit)
        fingerprint = getattr(self.rows, "_fingerprint", None)
        return store.digest("hub", fingerprint) if fingerprint else None

    def read(self) -> Iterator[NumberedRow]:
        """Every row, as it comes."""
        try:
            for row, value in enumerate(self.rows, 1):
                yield NumberedRow(source=self.name, line=None, row=row, value=value)
        except HarnessError:
            raise
        except Exception as error:
            raise self.hub._unusable(error) from error
