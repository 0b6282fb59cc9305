"""`ducklake service`: the roles as services of systemd."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from ducklake.cli.options import ConfigOption, JsonOption
from ducklake.cli.output import note
from lake.config import load_config
from lake.errors import ConfigError
from lake.storage.operations import write_atomically

SystemOption = Annotated[
    bool,
    typer.Option("--system", help="Units of root's systemd; by default those of the own user."),
]
UserOption = Annotated[
    str | None, typer.Option("--user", help="Who runs the roles, with --system; never root.")
]


def install(
    config: ConfigOption = None,
    system: SystemOption = False,
    user: UserOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the units, and write nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a unit of systemd for each role, and a target that starts and stops them together."""
    from ducklake.service.units import Service, folder

    settings = load_config(config)
    service = Service(settings, system, _user(user) if system else "")
    place = folder(system, Path.home())
    units = {place / name: text for name, text in service.units().items()}
    if as_json:
        print(
            json.dumps({"target": service.target, "units": {str(p): t for p, t in units.items()}})
        )
    elif dry_run:
        for path, text in units.items():
            print(f"# {path}\n{text}")
    if dry_run:
        return
    try:
        place.mkdir(parents=True, exist_ok=True)
        for path, text in units.items():
            write_atomically(path, text, 0o644)
    except OSError as error:
        raise ConfigError(
            f"{place} cannot be written ({os.strerror(error.errno or 0)}).",
            "Run it with sudo, or without --system for units of your own user.",
        ) from None
    systemctl = "sudo systemctl" if system else "systemctl --user"
    note(f"{len(units)} units written to {place}. Start them now, and whenever the machine starts:")
    note(f"  {systemctl} daemon-reload && {systemctl} enable --now {service.target}")
    if not system:
        note("  loginctl enable-linger    # so that they run while nobody is logged in")


def remove(config: ConfigOption = None, system: SystemOption = False) -> None:
    """Stop the roles' units, and remove them; the lake stays."""
    from ducklake.service.units import Service, folder

    settings = load_config(config)
    service = Service(settings, system)
    place = folder(system, Path.home())
    found = [*sorted(place.glob(f"{service.prefix}-*.service")), place / service.target]
    found = [path for path in found if path.is_file()]
    if not found:
        raise ConfigError(f"{place} has no units of {settings.settings.name}.", "See --system.")
    if shutil.which("systemctl"):
        words = ["systemctl", *([] if system else ["--user"]), "disable", "--now"]
        subprocess.run([*words, service.target], capture_output=True, check=False)
    for path in found:
        path.unlink()
    note(f"{len(found)} units removed from {place}")


def _user(wished: str | None) -> str:
    found = wished or os.environ.get("SUDO_USER") or getpass.getuser()
    if found == "root":
        raise ConfigError(
            "The roles do not run as root.", "Name a user: `--system --user ducklake`."
        )
    return found
