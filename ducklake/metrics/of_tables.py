"""Metrics of tables: lag, freshness, size, dead letters, and the comparison with the source."""

from __future__ import annotations

from collections.abc import Iterator

from ducklake.metrics.definition import LIGHTS, Definition, Sample
from ducklake.monitoring.light import COLOURS
from ducklake.monitoring.snapshot import Snapshot
from ducklake.supervision.freshness import STATES
from lake.config import Config


def _lag(config: Config, found: Snapshot) -> Iterator[Sample]:
    group = f"ducklake.{config.settings.name}.lake"
    for topic, lag in found.lags.items():
        yield from (((group, topic, str(p)), behind) for p, behind in sorted(lag.offsets.items()))


def _lag_seconds(config: Config, found: Snapshot) -> Iterator[Sample]:
    group = f"ducklake.{config.settings.name}.lake"
    yield from (((group, topic), lag.seconds) for topic, lag in found.lags.items())


def _waiting(config: Config, found: Snapshot) -> Iterator[Sample]:
    for table in found.seen.freshness:
        for name, hop in table.hops.items():
            if hop.now_s is not None:
                yield (table.table, name), hop.now_s


def _latency(config: Config, found: Snapshot) -> Iterator[Sample]:
    for table in found.seen.freshness:
        for name, hop in table.hops.items():
            for quantile, seconds in (("0.5", hop.p50_s), ("0.95", hop.p95_s)):
                if seconds is not None:
                    yield (table.table, name, quantile), seconds


def _newest_row(config: Config, found: Snapshot) -> Iterator[Sample]:
    for table in found.seen.freshness:
        for name, hop in table.hops.items():
            moment = hop.source_at or hop.kafka_at
            if moment is not None:
                yield (table.table, name), moment


def _table_state(config: Config, found: Snapshot) -> Iterator[Sample]:
    for table in found.seen.freshness:
        yield from (((table.table, state), float(state == table.state)) for state in STATES)


def _table_light(config: Config, found: Snapshot) -> Iterator[Sample]:
    for table in found.seen.tables:
        for aspect in ("fresh", "complete", "tested", "light"):
            yield (table.table, aspect), COLOURS.index(getattr(table, aspect).colour)


def _rows(config: Config, found: Snapshot) -> Iterator[Sample]:
    yield from (((one.table,), one.rows) for one in found.storage)


def _bytes(config: Config, found: Snapshot) -> Iterator[Sample]:
    for one in found.storage:
        yield (one.table, "hot"), one.hot_bytes
        yield (one.table, "sealed"), one.sealed_bytes


def _files(config: Config, found: Snapshot) -> Iterator[Sample]:
    for one in found.storage:
        yield (one.table, "hot"), one.hot_files
        yield (one.table, "sealed"), one.sealed_files


def _dead_letters(config: Config, found: Snapshot) -> Iterator[Sample]:
    counts = {one.table: one.count for one in found.dead_letters}
    names = dict.fromkeys([*(one.table for one in found.storage), *counts])
    yield from (((name,), counts.get(name, 0)) for name in names)


def _dropped(config: Config, found: Snapshot) -> Iterator[Sample]:
    yield from (((one.table,), one.dropped) for one in found.dead_letters)


def _differences(config: Config, found: Snapshot) -> Iterator[Sample]:
    yield from (((one.table,), one.count) for one in found.seen.condition.reconciled)


def _source_rows(config: Config, found: Snapshot) -> Iterator[Sample]:
    for table in found.seen.tables:
        if table.source_rows is not None:
            yield (table.table,), table.source_rows


def _current_rows(config: Config, found: Snapshot) -> Iterator[Sample]:
    for table in found.seen.tables:
        if table.lake_rows is not None:
            yield (table.table,), table.lake_rows


def _compared_at(config: Config, found: Snapshot) -> Iterator[Sample]:
    yield from (((one.table,), one.at) for one in found.seen.condition.reconciled)


TABLES = (
    Definition(
        "kafka_consumergroup_lag",
        "gauge",
        ("consumergroup", "topic", "partition"),
        "Offsets that Kafka has and the lake does not; by the ledger's positions.",
        _lag,
    ),
    Definition(
        "kafka_consumergroup_lag_seconds",
        "gauge",
        ("consumergroup", "topic"),
        "For how long the oldest record that the lake does not have has waited.",
        _lag_seconds,
    ),
    Definition(
        "ducklake_waiting_seconds",
        "gauge",
        ("table", "hop"),
        "For how long something has waited to come to a hop; 0: everything is there.",
        _waiting,
    ),
    Definition(
        "ducklake_freshness_seconds",
        "gauge",
        ("table", "hop", "quantile"),
        "Seconds after the source's commit within which a share of the newest cycles' rows came"
        " to a hop.",
        _latency,
    ),
    Definition(
        "ducklake_newest_row_timestamp_seconds",
        "gauge",
        ("table", "hop"),
        "When the source committed the newest row at a hop; where it does not say, when that was"
        " produced.",
        _newest_row,
    ),
    Definition(
        "ducklake_table_state",
        "gauge",
        ("table", "state"),
        "1 for the state that the table is in, 0 for the others.",
        _table_state,
    ),
    Definition(
        "ducklake_table_light",
        "gauge",
        ("table", "aspect"),
        f"How far a table can be trusted: {LIGHTS}.",
        _table_light,
    ),
    Definition("ducklake_table_rows", "gauge", ("table",), "Rows in raw.", _rows),
    Definition(
        "ducklake_table_bytes",
        "gauge",
        ("table", "tier"),
        "Size of the files of a table in raw.",
        _bytes,
    ),
    Definition(
        "ducklake_table_files", "gauge", ("table", "tier"), "Files of a table in raw.", _files
    ),
    Definition(
        "ducklake_dead_letters",
        "gauge",
        ("table",),
        "Records and inputs that could not be decoded and are kept.",
        _dead_letters,
    ),
    Definition(
        "ducklake_dead_letters_dropped",
        "gauge",
        ("table",),
        "Records that could not be decoded and are only counted.",
        _dropped,
    ),
    Definition(
        "ducklake_reconciliation_differences",
        "gauge",
        ("table",),
        "Rows that are not those of the source, by the last comparison.",
        _differences,
    ),
    Definition(
        "ducklake_reconciliation_source_rows",
        "gauge",
        ("table",),
        "Rows of the source, by the last comparison.",
        _source_rows,
    ),
    Definition(
        "ducklake_reconciliation_lake_rows",
        "gauge",
        ("table",),
        "Current rows of the lake, by the last comparison.",
        _current_rows,
    ),
    Definition(
        "ducklake_reconciliation_timestamp_seconds",
        "gauge",
        ("table",),
        "When a table was last compared with its source.",
        _compared_at,
    ),
)
