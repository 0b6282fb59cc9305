"""Sources of dlt: rows and dlt's state in one Kafka transaction."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import structlog

from lake.config import Config, Endpoints, Source, Table
from lake.errors import DuckLakeError
from lake.records import Record, Reject
from lake.storage.paths import LakePaths
from producers.base import (
    BATCH_ROWS,
    REJECT_BYTES,
    Batch,
    Cursors,
    Problem,
)
from producers.cursors import committed_cursors
from producers.dlt_sources.children import Children, child_problems, with_children
from producers.dlt_sources.extraction import Extraction
from producers.dlt_sources.failures import named_failure
from producers.dlt_sources.options import DltOptions, DltTable
from producers.dlt_sources.run import Run, found_run, line_of, write_run
from producers.pace import Pace, PacedConnector
from producers.rest.requests import backfills

log = structlog.get_logger()
BATCH_BYTES = 8 * 1024 * 1024


class DltConnector(PacedConnector):
    """Runs each table's resource; what is wrong with one stops no other."""

    Options = DltOptions
    TableOptions = DltTable
    options: DltOptions

    def __init__(self, name: str, source: Source, config: Config, endpoints: Endpoints) -> None:
        super().__init__(name, source, config, endpoints)
        self._children = Children.of(name, self.table_options)
        own = [table for table in source.tables if table not in self._children.parents]
        self._pace = Pace(name, dict.fromkeys(own))

    @classmethod
    def problems(cls, source: Source) -> Iterator[Problem]:
        """Child tables of what is no table."""
        yield from child_problems(source)

    def count(self) -> dict[str, int]:
        """How many rows have been sent: asking for all of them again would be a whole load."""
        known = committed_cursors(self.endpoints, self.name)
        counts = {}
        for table in self.source.tables:
            parent = self._children.parents.get(table, table)
            cursor = known.get(f"{parent}:{self._resource(parent)}", {})
            found = cursor.get("children", {}).get(table, 0) if parent != table else None
            counts[table] = int(cursor.get("rows", 0) if found is None else found)
        return counts

    def _resource(self, table: str) -> str:
        return self._table(table).resource or table

    def _table(self, table: str) -> DltTable:
        options = self.table_options[table]
        assert isinstance(options, DltTable)
        return options

    def _path(self, table: str) -> Path:
        return LakePaths(self.config.data_dir).run / f"{self.name}.{table}.rows"

    def _table_batches(self, table: str, cursors: Cursors) -> Generator[Batch | None]:
        unit = self._resource(table)
        known = cursors.get(f"{table}:{unit}", {})
        begun = str(known.get("run", ""))
        run = found_run(self._path(table), begun) if begun else None
        asked = str(known.get("asking", "")) if begun else self._requested(table, known)
        spec = self.source.tables[table]
        if run is None:
            run, spec = self._made(table, {**known, "state": ""} if asked else known)
        elif not spec.key:
            spec = spec.model_copy(update={"key": list(known.get("key", ()))})
        yield None
        done = self._sent_of(table, run, known)
        nothing_new = run.sha256 == known.get("sha256")
        nothing_new |= not run.rows and run.state == known.get("state")
        if not nothing_new or begun or asked:
            known = {**known, "asking": asked}
            nested = self._children.fields(table)
            # A cursor of their own says that their rows came from here; the parent's tells how far.
            for child in nested.values():
                if f"{child}:{unit}" not in cursors:
                    yield Batch(child, unit, {"child_of": table})
            yield from _batches(table, spec, unit, run, known, done, nested)
        run.remove()

    def _requested(self, table: str, known: Mapping[str, Any]) -> str:
        """When all rows were asked for again, if that is still to be done."""
        moments = [request.at for request in backfills(self.config, self.name, table)]
        newest = max(moments, default="")
        return newest if known and newest > str(known.get("asked", "")) else ""

    def _made(self, table: str, known: Mapping[str, Any]) -> tuple[Run, Table]:
        """A new run from the state that is in Kafka, and the table with its key."""
        name, spec = f"{self.name}.{table}", self.source.tables[table]
        try:
            state = str(known.get("state", ""))
            options, unit = self._table(table), self._resource(table)
            made = Extraction(self.name, self.options, options, unit, state)
            key = spec.key or made.key()
            run = write_run(self._path(table), made.rows(key), made.state)
        except DuckLakeError:
            raise
        except Exception as error:  # whatever somebody's source raises
            raise named_failure(name, error) from None
        return run, spec.model_copy(update={"key": key})

    def _sent_of(self, table: str, run: Run, known: Mapping[str, Any]) -> int:
        """How many rows of a run have been sent."""
        if not known.get("run"):
            return 0
        done = int(known.get("done", 0))
        if run.sha256 == known["run"] or run.prefix(done) == known.get("prefix"):
            return done
        log.warning(
            "run_repeated",
            message="Rows of an interrupted run are sent again: its file is gone and the source"
            " has changed.",
            source=self.name,
            table=table,
            rows=done,
        )
        return 0


def _batches(
    table: str,
    spec: Table,
    unit: str,
    run: Run,
    known: Mapping[str, Any],
    done: int,
    nested: Mapping[str, str],
) -> Iterator[Batch]:
    """The rows of a run that are not in Kafka yet; the state comes with the last ones.

    Those of child tables are in the transaction of the row in which they were nested.
    """
    counts = Counter(known.get("children", {}))
    about = {"resource": unit, "fetched_at": datetime.now(UTC).isoformat()}
    records: list[Record] = []
    rejects: list[Reject] = []
    rows, good, seen, held = int(known.get("rows", 0)), 0, 0, 0
    prefix = hashlib.sha256()
    for row in run.read():
        encoded, reason = row
        prefix.update(line_of(row))
        seen += 1
        if seen <= done:
            continue
        held += len(encoded)
        if reason:
            rejects.append(Reject(table, encoded[:REJECT_BYTES], f"{unit}: {reason}", about))
        else:
            values = orjson.loads(encoded)
            good += 1
            moment = {**about, "row_no": rows + good} if nested else about
            made = list(with_children(table, spec, values, moment, nested))
            counts.update(record.table for record in made[1:])
            records += made
        if seen < run.rows and (len(records) >= BATCH_ROWS or held >= BATCH_BYTES):
            rows, good = rows + good, 0
            part = {"run": run.sha256, "done": seen, "prefix": prefix.hexdigest(), "rows": rows}
            part["children"] = dict(counts)
            names = ("state", "sha256", "asked", "asking")
            kept = {name: known[name] for name in names if known.get(name)}
            yield Batch(table, unit, {**kept, **part, "key": spec.key}, records, rejects)
            records, rejects, held = [], [], 0
    ended: dict[str, Any] = {"state": run.state, "sha256": run.sha256, "rows": rows + good}
    ended["children"] = dict(counts)
    asked = {"asked": str(known.get("asking") or known.get("asked", "")), "complete": True}
    yield Batch(table, unit, {**ended, **asked, "key": spec.key}, records, rejects)
