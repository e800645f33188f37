"""Where tokens come from: a tokenizer's whole description, in the form of tokenizer.json, and its way back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Description = dict[str, Any]  # what tokenizer.json holds


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A tokenizer as it was read: its description, its settings, and the texts of its files where it had files."""

    description: Description
    settings: Mapping[str, Any]  # what tokenizer_config.json holds
    end_ids: tuple[int, ...] = ()  # what generation_config.json or config.json name as ends
    files: Mapping[str, str] = field(default_factory=dict)  # file name → text

    def write(self, folder: Path) -> None:
        """Write the files that `transformers.AutoTokenizer` reads."""
        made = {
            "tokenizer.json": lambda: json.dumps(self.description, ensure_ascii=False),
            "tokenizer_config.json": lambda: json.dumps(dict(self.settings), ensure_ascii=False, indent=2) + "\n",
        }
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in self.files.items():
            (folder / name).write_text(text, encoding="utf-8", newline="")
        for name in made.keys() - self.files.keys():
            (folder / name).write_text(made[name](), encoding="utf-8")
