"""Files that nobody knows are moved to `orphans/`, never deleted."""

from __future__ import annotations

import secrets
from pathlib import Path

from lake.errors import LedgerError
from lake.storage.operations import move_into_place
from lake.storage.paths import LakePaths


def quarantine(paths: LakePaths, path: Path) -> Path:
    """Move what nobody knows out of the way, to `orphans/`; nothing is deleted.

    Raises:
        LedgerError: It lies outside of the lake.
    """
    if paths.root not in path.parents:
        raise LedgerError(f"{path} is not part of the lake {paths.root}.", "Leave it alone.")
    target = paths.orphans / paths.relative(path)
    if target.exists():
        target = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
    move_into_place(path, target)
    return target
