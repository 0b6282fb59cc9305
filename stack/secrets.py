"""Passwords of the embedded stack, in one private file."""

from __future__ import annotations

import secrets
import threading
from pathlib import Path

from lake.storage.json_files import read_json, write_json


class Secrets:
    """Passwords made once and kept in one private file.

    Args:
        path: The file, mode 0600.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._values: dict[str, str] = read_json(path)

    def get(self, name: str) -> str:
        """The password of that name, made now if it is new (letters and digits only)."""
        with self._lock:
            if name not in self._values:
                # letters and digits alone need no quoting in any file or SQL that carries them
                self._values[name] = secrets.token_hex(16)
                write_json(self._path, self._values)
            return self._values[name]
