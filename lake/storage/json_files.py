"""Small JSON files, which must never be seen half written, or by anybody else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lake.storage.operations import replace_unsynced, write_atomically


def write_json(path: Path, value: Any) -> None:
    """Write a private JSON file in one step."""
    write_atomically(path, json.dumps(value, indent=2) + "\n")


def replace_json(path: Path, value: Any) -> None:
    """Write a JSON file in one step, and do not wait for the disk: a power cut may undo it."""
    replace_unsynced(path, json.dumps(value) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The file's object; empty when there is no readable one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
