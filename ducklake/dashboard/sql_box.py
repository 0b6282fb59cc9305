"""The read-only SQL box: queries within limits of time, rows and memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Literal

from lake.errors import BatchError

SECONDS = 10.0
ROWS = 500
"""Rows that the page shows."""
DOWNLOAD_ROWS = 100_000
MOST_CHARACTERS = 20_000
Format = Literal["json", "csv", "parquet"]


class QueryRefused(BatchError):
    """A query that was not run, or that ended without a result."""


def query(data: Path, sql: str, format_: Format, seconds: float = SECONDS) -> bytes:
    """Run one SELECT over the published file.

    Args:
        data: The data folder.
        sql: The statement.
        format_: Of the result.
        seconds: After which it is ended.

    Raises:
        QueryRefused: It is not one SELECT, wrong, or beyond its limits; the message says which.
    """
    if not (data / "lake.duckdb").exists():
        raise QueryRefused("Nothing has been published yet.", "Run `ducklake batch --once`.")
    wish = {
        "data": str(data),
        "sql": sql,
        "format": format_,
        "rows": ROWS if format_ == "json" else DOWNLOAD_ROWS,
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ducklake.dashboard.sql_worker"],
            input=json.dumps(wish).encode(),
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise QueryRefused(
            f"The query took longer than {seconds:.0f} s.", "Filter, aggregate or limit it."
        ) from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip() if done.returncode == 2 else ""
        raise QueryRefused(said or "It needs more memory than it may have.")
    return done.stdout
