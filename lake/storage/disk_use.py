"""What the lake takes of its disk, looked at now and then, and when that will be full."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lake.storage.json_files import read_json, write_json
from lake.storage.paths import LakePaths

DAY = 86_400.0
KEPT_SECONDS = 8 * DAY
SHORTEST_SECONDS = 1800.0
"""Two looks nearer to each other say nothing of a day."""


@dataclass(frozen=True, slots=True)
class DiskUse:
    """What the newest look found.

    Attributes:
        at: When, in seconds since the epoch; 0: nobody has looked yet.
        parts: Each entry of the data folder to its bytes, the largest first.
        free_bytes: Of the disk, for those who are not root.
        bytes_per_day: By how much that shrinks, over the last day or as far back as is known;
            None: not known yet. Others may use the disk, too.
    """

    at: float = 0.0
    parts: Mapping[str, int] = field(default_factory=dict)
    free_bytes: int = 0
    bytes_per_day: float | None = None

    @property
    def days_left(self) -> float | None:
        """After how many days the disk is full at this rate; None: not known, or never."""
        if self.bytes_per_day is None or self.bytes_per_day <= 0:
            return None
        return self.free_bytes / self.bytes_per_day

    def dump(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "at": self.at,
            "bytes": dict(self.parts),
            "free_bytes": self.free_bytes,
            "bytes_per_day": self.bytes_per_day,
            "days_left": self.days_left,
        }


NO_LOOK = DiskUse()


def look_at_disk(paths: LakePaths, now: float) -> None:
    """Measure the data folder, and keep that; it takes a moment for each ten thousand files.

    Raises:
        DiskFull: There is no room to keep it.
    """
    looks = [look for look in _looks(paths) if now - KEPT_SECONDS < look["at"] < now]
    for look in looks:
        look.pop("bytes", None)  # only the newest says of what
    parts = {entry.name: _size(Path(entry.path)) for entry in os.scandir(paths.root)}
    free = shutil.disk_usage(paths.root).free
    write_json(paths.disk_use, {"looks": [*looks, {"at": now, "free": free, "bytes": parts}]})


def disk_use(paths: LakePaths) -> DiskUse:
    """What the newest look found, with the room that there is now."""
    looks = _looks(paths)
    if not looks:
        return NO_LOOK
    newest = looks[-1]
    parts = sorted(newest.get("bytes", {}).items(), key=lambda part: -part[1])
    free, now = shutil.disk_usage(paths.root).free, time.time()
    within = [look for look in looks if look["at"] >= now - 1.5 * DAY]
    first = min(within, key=lambda look: abs(now - DAY - look["at"]), default=None)
    rate = None
    if first is not None and (span := now - first["at"]) >= SHORTEST_SECONDS:
        rate = (first["free"] - free) * DAY / span
    return DiskUse(newest["at"], dict(parts), free, rate)


def _looks(paths: LakePaths) -> list[dict[str, Any]]:
    looks = read_json(paths.disk_use).get("looks", [])
    return [look for look in looks if isinstance(look, dict) and {"at", "free"} <= look.keys()]


def _size(path: Path) -> int:
    """Bytes that a file, or all files of a folder, take on the disk; links count as nothing."""
    with suppress(OSError):  # gone meanwhile, or another user's
        if path.is_symlink():
            return 0
        if not path.is_dir():
            return path.stat().st_blocks * 512
        return sum(_size(Path(entry.path)) for entry in os.scandir(path))
    return 0
