"""Runs the same commands that people run, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from lake.config import Config
from lake.errors import BatchError

SECONDS = 300.0


class CommandFailed(BatchError):
    """The command did not end with a result; what it says is the message."""


def run_command(
    config: Config,
    words: Sequence[str],
    arguments: Sequence[str],
    dry_run: bool,
    options: Sequence[str] = (),
) -> dict[str, Any]:
    """Run a command that knows `--json` and `--dry-run`.

    Args:
        config: The configuration; the command reads its file anew.
        words: The command, such as `dead-letters redrive`.
        arguments: Tables, or addresses.
        dry_run: Only say what it would do.
        options: More of them; `--name=value` where the value comes from somebody.

    Returns:
        What the command prints with `--json`, and how it ended.

    Raises:
        CommandFailed: It could not be done; the message says why.
    """
    known = ["--json", *(["--dry-run"] if dry_run else [])]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ducklake.cli", *words, *known, *options, "--", *arguments],
            cwd=config.root,
            env={**os.environ, "DUCKLAKE_CONFIG": str(config.path)},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CommandFailed(
            f"It took longer than {SECONDS:.0f} s, and was ended; what became a row stays one.",
            f"Run `ducklake {' '.join(words)}` in a terminal.",
        ) from None
    lines = done.stdout.splitlines()
    if not lines:
        said = (done.stderr.strip().splitlines() or ["It ended without a word."])[-1]
        raise CommandFailed(said.removeprefix("ducklake: "))
    found: dict[str, Any] = json.loads(lines[-1])
    return {"dry_run": dry_run, "complete": done.returncode == 0, **found}
