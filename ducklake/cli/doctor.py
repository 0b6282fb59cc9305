"""`ducklake doctor`: ask every service, and say how to repair what is wrong."""

from __future__ import annotations

import json

import typer

from ducklake.cli.options import ConfigOption, JsonOption
from ducklake.cli.output import note

WRONG = 3
"""Exit code where something is wrong."""


def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Ask every service the lake needs whether it is there, and set as the lake needs it.

    Each failure has a code (docs/DOCTOR.md) and the line that repairs it. Exit code 0: nothing is
    wrong; 3: something is; 1: the configuration cannot be used.
    """
    from ducklake.cli.configuration import load_checked
    from ducklake.doctor.examination import examine
    from ducklake.doctor.findings import ERROR
    from ducklake.monitoring.printable import printable

    settings = load_checked(config)
    found = examine(settings, lambda name: note(f"{name} ..."))
    errors = [one for one in found if one.level == ERROR]
    if as_json:
        print(json.dumps({"ok": not errors, "findings": [one.dump() for one in found]}))
    else:
        for one in found:
            print(printable(one.line()), flush=True)
        print(f"{len(errors)} errors" if errors else "nothing is wrong")
    if errors:
        raise typer.Exit(WRONG)
