"""Why a model could not be had from the Hugging Face Hub, in one line that says what to do."""

from __future__ import annotations

import errno
from pathlib import Path

from models.hub import HubModel


def explain(model: HubModel, error: Exception) -> str:
    from huggingface_hub import errors

    what = model.spec
    if isinstance(error, errors.GatedRepoError):
        return (
            f"model {what!r} is gated: accept its terms at {model.page}, then set HF_TOKEN to a token of that account "
            "(https://huggingface.co/settings/tokens)"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"model {what!r}: the repository is there, but no revision {model.revision!r}: see {model.page}/commits"
    if isinstance(error, errors.RepositoryNotFoundError) or _status(error) in (401, 403, 404):
        return (
            f"no model {what!r} on the Hub that you may read: check the name at {model.page}, and HF_TOKEN if it is "
            "private"
        )
    if isinstance(error, errors.LocalEntryNotFoundError):
        return _explain_absence(model, error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"model {what!r} does not fit on the disk of {cache_folder()}: make room, or set HF_HOME to another disk"
    if isinstance(error, PermissionError | NotADirectoryError | FileExistsError):
        return (
            f"model {what!r} cannot be kept in the Hub's cache {cache_folder()} ({error.strerror}): set HF_HOME to a "
            "folder that can be written"
        )
    return f"could not fetch model {what!r} ({reason_of(error)}): check the network and run again"


def _status(error: Exception) -> int | None:
    """What the Hub answered, as HTTP numbers it."""
    status: int | None = getattr(getattr(error, "response", None), "status_code", None)
    return status


def _explain_absence(model: HubModel, error: Exception) -> str:
    """The Hub was not asked, or did not answer, and its cache has no whole copy."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    cause = error.__cause__
    if isinstance(cause, OfflineModeIsEnabled) or cause is None:
        return (
            f"model {model.spec!r} is not whole in the Hub's cache {cache_folder()}, and HF_HUB_OFFLINE forbids to "
            "fetch it: unset that once, or give a model folder"
        )
    return (
        f"could not fetch model {model.spec!r} ({reason_of(cause)}), and the Hub's cache {cache_folder()} has no whole "
        "copy: check the network and run again"
    )


def reason_of(error: BaseException) -> str:
    """The first line of what a library says, of bounded length."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}"[:200] if lines else type(error).__name__


def cache_folder() -> Path:
    """Where the Hub's library keeps what it fetched: HF_HUB_CACHE, or `hub` in HF_HOME."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)
