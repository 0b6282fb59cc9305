"""Where a row is: each change of it from its source to PostgreSQL, with the moment of each hop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb

from ducklake.monitoring.lineage import Lineage
from lake.config import Config, TableRef
from lake.errors import ConfigError
from lake.ledger import NOW, LedgerReader
from lake.ledger.entries import Run
from lake.storage.schema import Schema
from lake.storage.sql import quoted, rows_query

MOST_CHANGES = 50
"""Changes of a row that are followed: the newest ones."""
MEMORY = "512MB"
ARRIVED, WAITING, HELD_BACK = "arrived", "waiting", "held_back"
_OPS = {"r": "snapshot", "c": "insert", "u": "update", "d": "delete"}
_CDC = ("_binlog_file", "_binlog_pos", "_binlog_row")


@dataclass(frozen=True, slots=True)
class TracedHop:
    """A change at a hop.

    Attributes:
        hop: `source`, one of `HOPS`.
        state: `arrived`, `waiting` or `held_back`.
        where: The position, the file, the run or the models.
        at: When it came there, in seconds of the epoch; None: not yet, or nobody knows.
        reason: What holds it back.
    """

    hop: str
    state: str
    where: str = ""
    at: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TracedChange:
    """One change of the row.

    Attributes:
        op: `snapshot`, `insert`, `update` or `delete`.
        address: TOPIC/PARTITION/OFFSET.
        hops: In their order.
    """

    op: str
    address: str
    hops: tuple[TracedHop, ...]


@dataclass(frozen=True, slots=True)
class RowTrace:
    """What the lake has of a row.

    Attributes:
        table: Its topic.
        key: Key column to the value that was asked for.
        changes: Oldest first; the newest `MOST_CHANGES`.
        left_out: Older changes that are not among them.
        dead_letters: Of the table: a change of the row may be among them.
    """

    table: str
    key: dict[str, str]
    changes: tuple[TracedChange, ...]
    left_out: int = 0
    dead_letters: int = 0

    def dump(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Row:
    """A change as raw has it."""

    op: str
    source_at: float | None
    kafka_at: float | None
    partition: int
    offset: int
    epoch: int
    position: str
    file: Path


class Tracer:
    """Follows the rows of one table.

    Args:
        config: The configuration.
        ledger: The ledger.
        lineage: The models.
        ref: The table.
    """

    def __init__(
        self, config: Config, ledger: LedgerReader, lineage: Lineage, ref: TableRef
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._ref = ref
        self._names = _models(lineage, f"raw.{config.relation(ref)}")
        self._runs = list(reversed(ledger.runs.newest(NOW)))
        states = {(state.topic, state.hop): state for state in ledger.freshness.all()}
        self._exported = states.get((ref.topic, "postgres"))

    def trace(self, key: Sequence[str]) -> RowTrace:
        """What the lake has of the row with a key.

        Args:
            key: A value for each column of the table's key, in its order.

        Raises:
            ConfigError: The table has no key, or a value does not fit.
        """
        topic = self._ref.topic
        columns = next(entry.key for ref, entry in self._config.tables() if ref == self._ref)
        if not columns:
            raise ConfigError(
                f"{topic} has no key that tells its rows apart.",
                f"Give it one: sources.{self._ref.source}.tables.{self._ref.table}.key.",
            )
        if len(columns) != len(key):
            raise ConfigError(
                f"The key of {topic} is {', '.join(columns)}.", "Give a value for each of them."
            )
        named = dict(zip(columns, key, strict=True))
        rows, left_out = self._rows(named)
        dead = dict(self._ledger.dead_letters.counts()).get(topic, 0)
        changes = tuple(self._change(row) for row in rows)
        return RowTrace(topic, named, changes, left_out, dead)

    def _rows(self, key: dict[str, str]) -> tuple[list[_Row], int]:
        """The newest changes of the row, oldest first, and how many are older."""
        schema = self._ledger.tables.schema_at(self._ref.topic, NOW)
        files = [file.path for file in self._ledger.files.live(self._ref.topic)]
        if schema is None or not files:
            return [], 0
        kind = self._config.kind(self._ref)
        columns = schema.relation(kind)
        query = rows_query(columns, files, tells_file=True)
        wanted = " AND ".join(_equals(schema, name, dict(columns)) for name in key)
        binlog = ", ".join(_CDC) if kind == "cdc" else "NULL, NULL, NULL"
        with duckdb.connect(config={"threads": 2, "memory_limit": MEMORY}) as database:
            database.execute("SET TimeZone = 'UTC'")
            try:
                found = database.execute(
                    "SELECT count(*) OVER (), _op, epoch(_source_ts), epoch(_kafka_ts), _partition,"
                    f" _offset, _topic_epoch, {binlog}, filename FROM ({query}) WHERE {wanted}"
                    " ORDER BY _topic_epoch DESC, _kafka_ts DESC, _partition, _offset DESC"
                    f" LIMIT {MOST_CHANGES}",
                    list(key.values()),
                ).fetchall()
            except duckdb.ConversionException:
                raise ConfigError(
                    f"The key of {self._ref.topic} cannot be {', '.join(key.values())!r}.",
                    "`ducklake report` and the page show the types of its columns.",
                ) from None
        rows = [
            _Row(str(op), source, kafka, number, offset, epoch, _position(*place), Path(file))
            for _, op, source, kafka, number, offset, epoch, *place, file in reversed(found)
        ]
        return rows, found[0][0] - len(rows) if found else 0

    def _change(self, row: _Row) -> TracedChange:
        address = f"{self._ref.topic}/{row.partition}/{row.offset}"
        commit, committed_at = self._ledger.activity.commit_of(
            self._ref.topic, row.epoch, row.partition, row.offset
        ) or (NOW, None)
        file = str(row.file.relative_to(self._ledger.paths.root))
        hops = [
            TracedHop("source", ARRIVED, row.position, row.source_at),
            TracedHop("topic", ARRIVED, address, row.kafka_at),
            TracedHop("raw", ARRIVED, f"{file}, commit {commit}", committed_at),
        ]
        hops += [self._modelled(layer, commit) for layer in ("staging", "consume")]
        hops.append(self._in_postgres(commit))
        return TracedChange(_OPS.get(row.op, row.op), address, tuple(hops))

    def _modelled(self, layer: str, commit: int) -> TracedHop:
        """The first run that has published the change in all models of a layer."""
        models = self._names[layer]
        if not models:
            return TracedHop(layer, WAITING, reason="no model reads it")
        held: tuple[str, str] | None = None
        for run in self._runs:
            if run.last_commit < commit:
                continue
            back = run.summary.held_back
            held = next(((name, back[name]) for name in models if name in back), None)
            if held is None:
                return self._since(layer, run, models)
        state, reason = (HELD_BACK, f"{held[0]}: {held[1]}") if held else (WAITING, "")
        return TracedHop(layer, state, ", ".join(models), reason=reason)

    def _since(self, layer: str, run: Run, models: Iterable[str]) -> TracedHop:
        """There since a run; where the ledger has forgotten older runs, at the latest since it."""
        forgotten = run is self._runs[0] and run.number > 1
        where = f"{', '.join(models)}, {'not after ' if forgotten else ''}run {run.number}"
        return TracedHop(layer, ARRIVED, where, run.started_at + run.seconds)

    def _in_postgres(self, commit: int) -> TracedHop:
        relation = f"raw.{self._config.relation(self._ref)}"
        known = self._exported
        if known is None or known.commit < commit:
            last = self._runs[-1].summary if self._runs else None
            reason = (last.not_exported.get(relation) or last.export_error or "") if last else ""
            return TracedHop("postgres", HELD_BACK if reason else WAITING, relation, None, reason)
        at = known.reached_at if known.commit == commit else None
        return TracedHop("postgres", ARRIVED, relation, at)


def _models(lineage: Lineage, relation: str) -> dict[str, tuple[str, ...]]:
    """Layer to the models in which the rows of a relation are seen."""
    below = [name for name in lineage.parents if relation in lineage.upstream(name)]
    return {
        layer: tuple(sorted(name for name in below if name.startswith(f"{layer}.")))
        for layer in ("staging", "consume")
    }


def _equals(schema: Schema, field: str, types: dict[str, str]) -> str:
    """That the column of a field of the key has a value; typed, so that files can be skipped."""
    name = next((column.name for column in schema.columns if column.field == field), field)
    if name not in types:
        raise ConfigError(
            f"raw has no column {field!r} yet.", "`ducklake schema` shows what it has."
        )
    return f"{quoted(name)} = CAST(? AS {types[name]})"


def _position(file: str | None, position: int | None, row: int | None) -> str:
    return f"{file}:{position}, row {row}" if file is not None else ""
