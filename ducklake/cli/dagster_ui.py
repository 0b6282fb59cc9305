"""`ducklake dagster`: Dagster's page and its daemon, over this lake."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ducklake.cli.options import ConfigOption
from ducklake.cli.output import note
from ducklake.cli.signals import stop_on_signals
from lake.config import load_config
from lake.errors import ConfigError, ProcessFailed
from lake.installation import install_extra
from lake.processes.guarded import run_guarded
from lake.storage.operations import make_scratch_folder, write_atomically
from lake.storage.privacy import keep_private

SETTINGS = "telemetry:\n  enabled: false\nnux:\n  enabled: false\n"
"""What Dagster finds where nobody has written another one: it tells its makers nothing."""
MODULE = "ducklake.dagster_pipeline"
HOME = "DAGSTER_HOME"
GRACE_SECONDS = 10.0
"""What its page, daemon and runs are given to end; then they are killed."""


def dagster(
    config: ConfigOption = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port.")] = 3000,
) -> None:
    """Serve Dagster's page over the pipeline, and run its schedule and sensor. It has no login."""
    settings = load_config(config)
    if importlib.util.find_spec("dagster_webserver") is None:
        raise ConfigError(
            "`ducklake dagster` needs the Python package dagster-webserver.",
            f"Install it with `{install_extra('dagster')}`.",
        )
    keep_private(settings.data_dir)
    home = Path(os.environ.get(HOME) or settings.data_dir / "dagster")
    make_scratch_folder(home)
    write_settings(home)
    environment = {
        **os.environ,
        HOME: str(home),
        "DUCKLAKE_CONFIG": str(settings.path),
    }
    note(f"Dagster: http://{host}:{port}/  (no login: whoever reaches it can start runs)")
    words = [sys.executable, "-m", "dagster", "dev", "-m", MODULE, "-h", host, "-p", str(port)]
    code = run_guarded(words, environment, stop_on_signals(), GRACE_SECONDS)
    if code is not None:
        raise ProcessFailed(
            f"Dagster ended by itself (exit code {code}).",
            "Its last lines above say why; a port that is taken is changed with --port.",
        )


def write_settings(home: Path) -> None:
    """Give Dagster its settings, unless it has some.

    Args:
        home: Its folder.
    """
    path = home / "dagster.yaml"
    if not path.exists():
        write_atomically(path, SETTINGS)
