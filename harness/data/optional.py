"""Libraries that only some data needs: imported where used, and one line where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from harness.errors import HarnessError


def optional(module: str, need: str) -> Any:
    """The module; HarnessError where it is not installed. `need` says what needs it, as the error begins."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        library = module.partition(".")[0]
        raise HarnessError(f"{need} needs {library}, which is not installed: pip install 'prefbench[hf]'") from error
