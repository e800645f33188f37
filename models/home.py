"""Where what is kept between runs lies."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_path() -> Path:
    """PREFBENCH_CACHE, or the user's cache folder; it may not exist yet."""
    asked = os.environ.get("PREFBENCH_CACHE")
    return Path(os.path.expanduser(asked)) if asked else platformdirs.user_cache_path("prefbench")
