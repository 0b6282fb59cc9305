"""`ducklake consume`: what is asked for and cannot be is said, not left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ducklake.cli.app import app
from lake.errors import ConfigError

CONFIG = Path(__file__).resolve().parents[2] / "ducklake.yml"


def test_a_run_that_ends_is_one_process() -> None:
    words = ["consume", "--once", "--workers", "2", "--config", str(CONFIG)]
    with pytest.raises(ConfigError, match="Omit --workers"):
        CliRunner().invoke(app, words, catch_exceptions=False)
