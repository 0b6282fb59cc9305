"""A project onto the disk: whole or not at all, and never over what is there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from lake.errors import ConfigError


def write_new(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Write files that are not there.

    Args:
        folder: The project.
        files: Texts by path, relative to the folder.

    Returns:
        The paths.

    Raises:
        ConfigError: One of them is there, or cannot be written; then nothing has been written.
    """
    there = [path for path in files if os.path.lexists(folder / path)]
    if there:
        raise ConfigError(
            f"{folder}: {', '.join(there)} {'is' if len(there) == 1 else 'are'} there already.",
            "Name another folder, or move what is there away; `ducklake init --add SOURCE.TABLE`"
            " adds a table to a project.",
        )
    written: list[Path] = []
    made: list[Path] = []
    try:
        for path, text in files.items():
            target = folder / path
            made += _made(target.parent)
            with target.open("x", encoding="utf-8") as file:
                written.append(target)
                file.write(text)
    except BaseException as error:  # Ctrl-C as well
        for target in written:
            target.unlink(missing_ok=True)
        for each in reversed(made):
            with suppress(OSError):  # somebody else has put something there
                each.rmdir()
        if not isinstance(error, OSError):
            raise
        what = f"{error.filename or folder}: {error.strerror}."
        raise ConfigError(what, "Name a folder that can be written.") from None
    return list(files)


def _made(folder: Path) -> list[Path]:
    """Make a folder; returns it and those above it that were not there, the outermost first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing[::-1]
