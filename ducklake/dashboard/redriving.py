"""Redrives dead letters by the same command that people run, in a process of its own."""

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


class RedriveFailed(BatchError):
    """The command did not end with a result; what it says is the message."""


def redrive(config: Config, what: Sequence[str], dry_run: bool) -> dict[str, Any]:
    """Run `ducklake dead-letters redrive`.

    Args:
        config: The configuration.
        what: Tables, or addresses.
        dry_run: Only say what would become of them.

    Returns:
        What the command prints with `--json`, and its own line to paste.

    Raises:
        RedriveFailed: It could not be done; the message says why.
    """
    options = ["--json", *(["--dry-run"] if dry_run else [])]
    words = ["dead-letters", "redrive", *options, "--", *what]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ducklake.cli", *words],
            cwd=config.root,
            env={**os.environ, "DUCKLAKE_CONFIG": str(config.path)},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RedriveFailed(
            f"It took longer than {SECONDS:.0f} s, and was ended; what became a row stays one.",
            "Run `ducklake dead-letters redrive` in a terminal.",
        ) from None
    lines = done.stdout.splitlines()
    if not lines:
        said = (done.stderr.strip().splitlines() or ["It ended without a word."])[-1]
        raise RedriveFailed(said.removeprefix("ducklake: "))
    found: dict[str, Any] = json.loads(lines[-1])
    return {"dry_run": dry_run, "complete": done.returncode == 0, **found}
