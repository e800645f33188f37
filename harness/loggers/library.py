"""The library behind a logger: imported only where it is asked for, and one line where it is missing."""

from __future__ import annotations

import importlib
from typing import Any

from harness.errors import HarnessError


def library(logger: str, module: str = "") -> Any:
    """The module, by default of the logger's own name; HarnessError says how to install it."""
    try:
        return importlib.import_module(module or logger)
    except ImportError as error:
        why = "" if isinstance(error, ModuleNotFoundError) else f" ({' '.join(str(error).split())[:200]})"
        raise HarnessError(
            f"--log {logger} needs a library that cannot be imported{why}: pip install 'prefbench[{logger}]'"
        ) from error
