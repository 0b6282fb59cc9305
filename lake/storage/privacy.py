"""What is written is for the user who runs the lake, and for nobody else of the machine."""

from __future__ import annotations

import os
from pathlib import Path

import structlog

from lake.storage.operations import close_folder

UMASK = 0o077
"""Of every role and every child of it: the lake holds customers' data."""
PRIVATE, PASSED = 0o700, 0o711
log = structlog.get_logger()


def data_folder_mode(folder: Path) -> int:
    """The widest mode that a data folder may have.

    PostgreSQL of root may have to run as nobody, who passes through it to the stack's folder.
    """
    try:
        is_passed = folder.stat().st_uid == 0 and (folder / "stack").stat().st_mode & 0o001
    except OSError:
        return PRIVATE
    return PASSED if is_passed else PRIVATE


def keep_private(folder: Path) -> None:
    """Have this process make files for its own user alone, and close the data folder to others."""
    os.umask(UMASK)
    close_data_folder(folder)


def close_data_folder(folder: Path) -> None:
    """Close the data folder to other users, if it is ours and they may do anything in it."""
    if (had := close_folder(folder, data_folder_mode(folder))) is not None:
        log.warning(
            "data_folder_closed",
            message="Other users of this machine could read the data folder; now they cannot.",
            folder=str(folder),
            mode=f"{had:o}",
        )
