"""`ducklake replay` and `ducklake generations`: topics read again, and what came of it."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import typer
from rich.console import Console
from rich.table import Table as RichTable

from consumers.compaction.old_generations import must_not_be_shown
from consumers.compaction.old_generations import remove_generation as remove_old
from consumers.replay.backfill import Replay
from consumers.replay.build import NICENESS, Helpers
from consumers.replay.comparison import Comparison
from consumers.replay.context import ReplayScope
from consumers.replay.generation_builder import LARGE_SPAN
from consumers.replay.offset_ranges import Bounds
from consumers.replay.range_reader import KafkaReader
from consumers.replay.rebuild import Rebuild, Rebuilt
from consumers.replay.tables import known_table
from ducklake.cli.checks import chosen, chosen_one
from ducklake.cli.progress import bar
from lake.config import Config, TableRef
from lake.errors import ConfigError
from lake.ledger import NOW
from lake.opening import open_lake
from lake.storage.session import session_is_alive

REBUILDERS = 2


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for on the command line.

    Attributes:
        table: A topic or a table's name; None: all tables.
        start: `--from`.
        end: `--to`.
        offsets: Whether these are offsets.
        workers: Processes that rebuild.
    """

    table: str | None
    start: str | None = None
    end: str | None = None
    offsets: bool = False
    dry: bool = False
    rebuild: bool = False
    workers: int | None = None


def replay(config: Config, wish: Wish, as_json: bool, stop: threading.Event) -> bool:
    """Read topics again; returns whether the lake now holds what Kafka holds.

    Raises:
        ConfigError: The range cannot be read as offsets or moments.
        DuckLakeError: As `Replay.run` and `Rebuild.run` say.
    """
    if wish.rebuild and wish.dry:
        raise ConfigError(
            "--dry-run and --rebuild do not go together.", "Without --rebuild it says what differs."
        )
    if wish.rebuild and wish.table is None:
        raise ConfigError("--rebuild takes one table.", "Name it: ducklake replay TABLE --rebuild.")
    tables = chosen(config, wish.table)
    if wish.table is None:
        with open_lake(config, for_writing=False) as lake:
            tables = [pair for pair in tables if lake.ledger.tables.get(pair[0].topic)]
    endpoints = config.endpoints()
    if wish.rebuild:
        ref, spec = chosen_one(config, str(wish.table))
        os.nice(NICENESS)
        workers = wish.workers or min(REBUILDERS, os.cpu_count() or 1)
        with Helpers(workers - 1) as helpers:
            scope = ReplayScope(ref, spec, bounds(config, ref, wish))
            with bar(f"rebuilding {ref.topic}", "offsets") as progress:
                least = 0 if wish.workers else LARGE_SPAN
                rebuild = Rebuild(config, endpoints, scope, helpers, least, progress)
                built = rebuild.run(stop)
        _print_rebuilt(ref, built, as_json)
        return True
    found = []
    for ref, spec in tables:
        scope = ReplayScope(ref, spec, bounds(config, ref, wish))
        with bar(f"comparing {ref.topic}", "offsets") as progress:
            found.append(Replay(config, endpoints, scope, wish.dry, progress).run(stop))
        if not as_json:
            _print_comparison(found[-1], wish.dry)
    if as_json:
        listed = [_as_json(comparison) for comparison in found]
        print(json.dumps(listed if wish.table is None else listed[0]))
    return all(comparison.exact for comparison in found)


def _as_json(found: Comparison) -> dict[str, object]:
    return {
        **asdict(found),
        "exact": found.exact,
        "checksum": f"{found.checksum:016x}",
        "lake_checksum": f"{found.lake_checksum:016x}",
    }


def bounds(config: Config, ref: TableRef, wish: Wish) -> Bounds:
    """The offsets of each partition that a wish is about."""
    with open_lake(config, for_writing=False) as lake:
        numbers = sorted(known_table(lake.ledger, ref).positions)
    if wish.offsets:
        first, last = _offset("--from", wish.start), _offset("--to", wish.end)
        return Bounds(dict.fromkeys(numbers, first or 0), dict.fromkeys(numbers, last))
    begin, until = _moment("--from", wish.start), _moment("--to", wish.end)
    with KafkaReader(config.endpoints()) as kafka:

        def at(moment: float | None, number: int) -> int | None:
            return None if moment is None else kafka.at(ref.topic, number, moment)

        firsts = {n: 0 if begin is None else at(begin, n) for n in numbers}
        ends = {n: at(until, n) for n in numbers}
    return Bounds({n: NOW if f is None else f for n, f in firsts.items()}, ends)


def _offset(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise ConfigError(
            f"{option} {text}: not an offset.", "Leave out --offsets to give a moment."
        ) from None


def _moment(option: str, text: str | None) -> float | None:
    """Seconds since the epoch; without a zone it is UTC, as the dates of the lake are."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{option} {text}: not a date or moment.",
            "Write 2026-10-01 or 2026-10-01T12:30 (UTC), or give --offsets.",
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _print_rebuilt(ref: TableRef, built: Rebuilt, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"table": ref.topic, **asdict(built), "folder": str(built.folder)}))
        return
    table = RichTable(box=None, show_header=False)
    table.add_row("table", ref.topic)
    table.add_row("generation", str(built.generation))
    table.add_row("read again", f"{built.read_again:,}")
    table.add_row("reused", f"{built.reused:,}")
    table.add_row("dead letters", f"{built.dead_letters:,}")
    table.add_row("public files", str(built.folder))
    Console().print(table)
    print("the old generation stays: `ducklake generations list`")


def _print_comparison(found: Comparison, dry: bool) -> None:
    for kind, places in (("has other values", found.differing), ("is not in Kafka", found.extra)):
        for partition, offset in places:
            print(f"{found.table}: partition {partition}, offset {offset} {kind}")
    for partition, first, last in found.lost:
        print(
            f"{found.table}: partition {partition}, offsets {first} to {last} are in no file and"
            f" gone from Kafka: `ducklake accept-loss {found.table}` continues without them"
        )
    for name in found.lost_files:
        print(
            f"{found.table}: {name} is missing or damaged"
            + ("; written again" if name in found.repaired else "")
        )
    if not dry and len(found.repaired) < len(found.lost_files):
        print(
            f"{found.table}: Kafka does not hold all rows of a file. Put it back from a backup; or"
            " go on without it: `ducklake ledger rebuild`, then `ducklake replay`"
        )
    table = RichTable(box=None, show_header=False)
    table.add_row("table", found.table)
    table.add_row("read from Kafka", f"{found.compared:,}")
    table.add_row("checksum in Kafka", f"{found.checksum:016x}")
    table.add_row("checksum in the lake", f"{found.lake_checksum:016x}")
    table.add_row("missing in the lake", f"{found.missing:,}")
    table.add_row("filled", "nothing (--dry-run)" if dry else f"{found.filled:,}")
    table.add_row("result", "[green]exact[/green]" if found.exact else "[red]differs[/red]")
    Console().print(table)
    if found.differing:
        print(f"`ducklake replay {found.table} --rebuild` decodes all of it anew")


def list_generations(config: Config, as_json: bool) -> None:
    """Print all generations of all tables."""
    with open_lake(config, for_writing=False) as lake:
        found, paths = lake.ledger.generations.all(), lake.paths
    listed = [
        {
            **asdict(g),
            "state": (
                g.state
                if g.state != "building" or session_is_alive(paths, g.session)
                else "abandoned"
            ),
            "folder": str(paths.raw(TableRef(*g.topic.split(".", 1)), g.number)),
        }
        for g in found
    ]
    if as_json:
        print(json.dumps(listed))
        return
    table = RichTable("table", "generation", "state", "rows", "files", "MB", "public files in")
    for entry in listed:
        table.add_row(
            str(entry["topic"]),
            str(entry["number"]),
            str(entry["state"]),
            f"{entry['rows']:,}",
            f"{entry['files']:,}",
            f"{int(str(entry['bytes'])) / 1e6:,.1f}",
            str(entry["folder"]),
        )
    Console().print(table)


def remove_generation(config: Config, table: str, generation: int, yes: bool) -> None:
    """Delete a generation that is not the current one, and its files.

    Raises:
        LedgerError: There is no such generation, or it is the current one.
        ServiceUnreachable: Somebody reads the lake at this moment.
    """
    ref, _ = chosen_one(config, table)
    with open_lake(config, for_writing=True) as lake:
        must_not_be_shown(lake, ref, generation)
        if not yes:
            typer.confirm(f"Delete generation {generation} of {ref.topic} for good?", abort=True)
        left = remove_old(lake, ref, generation)
    print(f"{ref.topic}: generation {generation} is gone")
    for path in left:
        print(f"not the lake's, left alone: {path}")
