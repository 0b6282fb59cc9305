"""`ducklake gc`: what nothing of the lake needs any more is listed, and removed."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import asdict

import typer

from consumers.compaction.housekeeping import GENERATION, QUARANTINE, Housekeeping, Leftover
from ducklake.cli.output import note
from lake.config import Config
from lake.config.settings import AGE, seconds_of
from lake.errors import ConfigError, DuckLakeError
from lake.opening import open_lake


def collect(
    config: Config, dry_run: bool, older_than: str | None, yes: bool, as_json: bool
) -> bool:
    """Remove what is old enough.

    Args:
        config: The configuration.
        dry_run: Only say what that is.
        older_than: An age in place of the configured ones.
        yes: Do not ask first.
        as_json: Print one object.

    Returns:
        Whether all of it could be removed.
    """
    ages = _ages(config, older_than)
    spans = {kind: seconds_of(age) for kind, age in ages.items()}
    with open_lake(config, for_writing=True) as lake:
        keeping, now = Housekeeping(config, lake, spans), time.time()
        found = keeping.leftovers()
        due = [one for one in found if keeping.is_due(one, now)]
        if due and not dry_run and not yes:
            typer.confirm(f"Remove {_counted(due)} for good?", abort=True)
        failed = {} if dry_run else _removed(keeping, due)
    kept = [one for one in found if one not in due]
    if as_json:
        entries = [
            {**asdict(one), "is_due": one in due, "error": failed.get(one.name, "")}
            for one in found
        ]
        print(json.dumps({"dry_run": dry_run, "leftovers": entries}))
        return not failed
    verb = "would be removed" if dry_run else "removed"
    for kind, age in ages.items():
        gone = [one for one in due if one.kind == kind and one.name not in failed]
        stay = [one for one in kept if one.kind == kind]
        where = "orphans/" if kind == QUARANTINE else "replaced generations"
        kept_for = "kept for ever (off)" if age == "off" else f"kept for {age}"
        print(f"{where}: {_counted(gone)} {verb}, {_counted(stay)} younger; {kept_for}")
        for one in gone if kind == GENERATION else ():
            print(f"  {one.name}: {one.bytes / 1e6:,.1f} MB")
    for name, reason in failed.items():
        note(f"ducklake: {name} stays: {reason}")
    return not failed


def _ages(config: Config, older_than: str | None) -> dict[str, str]:
    if older_than is None:
        retention = config.settings.retention
        return {QUARANTINE: retention.quarantine, GENERATION: retention.generations}
    if not re.fullmatch(rf"0|{AGE}", older_than):
        raise ConfigError(
            f"--older-than {older_than!r} is no age.",
            "Give a number with s, m, h or d, such as 7d.",
        )
    age = "0s" if older_than == "0" else older_than
    return {QUARANTINE: age, GENERATION: age}


def _removed(keeping: Housekeeping, due: Sequence[Leftover]) -> dict[str, str]:
    """Remove them; gives what stays, and why."""
    failed = {}
    for one in due:
        try:
            keeping.remove(one)
        except DuckLakeError as error:
            failed[one.name] = str(error)
    return failed


def _counted(found: Sequence[Leftover]) -> str:
    size = sum(one.bytes for one in found) / 1e6
    kinds = {one.kind for one in found}
    what = "files" if kinds <= {QUARANTINE} else "generations"
    what = "files and generations" if len(kinds) > 1 else what
    return f"{len(found):,} {what} ({size:,.1f} MB)"
