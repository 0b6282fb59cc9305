"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", envvar="DUCKLAKE_CONFIG", help="The configuration file."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One line of JSON on standard output.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
OnceOption = Annotated[
    bool, typer.Option("--once", help="Process what is available now, then stop.")
]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Ask no server.")]
