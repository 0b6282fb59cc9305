"""A file to which several processes append lines, and which is put aside once it is large."""

from __future__ import annotations

import fcntl
from pathlib import Path


def append_lines(path: Path, lines: bytes, most_bytes: int, keep: int) -> None:
    """Append whole lines; nobody else's are between them.

    Args:
        path: The file; its folder is made where it is missing.
        lines: Each with its end.
        most_bytes: Beyond this size the file becomes `.1`, and a new one begins.
        keep: How many of those that were put aside stay; `.1` is the newest.

    Raises:
        OSError: The disk is full, or the file may not be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists() and path.stat().st_size + len(lines) > most_bytes:
            for number in range(keep - 1, 0, -1):
                older = path.with_name(f"{path.name}.{number}")
                if older.exists():
                    older.replace(path.with_name(f"{path.name}.{number + 1}"))
            path.replace(path.with_name(f"{path.name}.1"))
        with path.open("ab") as file:
            file.write(lines)
