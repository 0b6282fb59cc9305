"""What a shop owner and a data engineer want to see after a run: every figure is a query."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import duckdb
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from batcher.catalog import opened, renamed_columns
from batcher.postgres import PostgresExport
from ducklake.cli.condition_text import ago, left_lines, problem_lines, reconciliation_text
from ducklake.monitoring.printable import printable
from ducklake.supervision.condition import Condition, look
from lake.config import FOREIGN, Config, Endpoints
from lake.errors import BatchError, DuckLakeError
from lake.ledger import LedgerReader
from lake.opening import open_lake
from lake.storage.paths import LakePaths
from lake.storage.sql import literal, quoted
from producers.registry import connector

_FIGURES = (
    (
        "Revenue, last 30 days",
        "SELECT 'ARS ' || format('{:,.0f}', sum(revenue_ars)::DOUBLE) || '  (USD '"
        " || format('{:,.0f}', sum(revenue_usd)::DOUBLE) || ' at the blue rate)'"
        " FROM consume.daily_sales WHERE sales_date > (SELECT max(sales_date) FROM"
        " consume.daily_sales) - 30",
    ),
    (
        "Best category, last full month",
        "SELECT category || '  ' || format('{:.1f}', month_share_pct::DOUBLE) || ' % of sales'"
        " FROM consume.sales_by_category WHERE month < date_trunc('month', current_date)"
        " ORDER BY month DESC, revenue_ars DESC LIMIT 1",
    ),
    (
        "Customers who bought again",
        "SELECT count(*) FILTER (orders > 1) || ' of ' || count(*) FILTER (orders > 0)"
        " FROM consume.customer_360",
    ),
    (
        "Products to reorder now",
        "SELECT count(*) FILTER (should_reorder) || ' of ' || count(*) FILTER (is_active)"
        " || '  (' || format('{:,}', sum(reorder_units)::BIGINT) || ' units)'"
        " FROM consume.inventory_health",
    ),
    (
        "Deliveries on time",
        "SELECT format('{:.1f}', 100.0 * (1 - sum(late_shipments) / sum(shipments))::DOUBLE)"
        " || ' % of ' || format('{:,}', sum(shipments)::BIGINT) || ' shipments'"
        " FROM consume.supplier_scorecard",
    ),
)


@dataclass(slots=True)
class Report:
    """The state of the lake, layer by layer.

    Attributes:
        source: Rows that each source itself counts, by topic; empty where they were not asked.
        raw: Rows of the public files, by topic.
        staging: Rows by model, of the published DuckDB file.
        consume: Rows by model, of the published DuckDB file.
        postgres: The same, as PostgreSQL counts them.
        dbt: models, tests and failures of the newest cycle.
        dead_letters: Records and inputs that could not be decoded.
        dropped: How many more of these were only counted.
        age: Seconds since the newest commit of each topic.
        held_back: Relations whose last good state is shown, with the reason.
        not_exported: Relations whose last state stays in PostgreSQL, with the reason.
        renamed: Columns of raw whose name in PostgreSQL is another one.
        left: Columns that only PostgreSQL still has, each to the statement that drops it.
        figures: Business figures as (name, text).
        missing: What could not be asked, and why.
        condition: What runs, and what has stopped.
    """

    source: dict[str, int] = field(default_factory=dict)
    raw: dict[str, int] = field(default_factory=dict)
    staging: dict[str, int] = field(default_factory=dict)
    consume: dict[str, int] = field(default_factory=dict)
    postgres: dict[str, dict[str, int]] = field(default_factory=dict)
    dbt: dict[str, int] = field(default_factory=dict)
    dead_letters: int = 0
    dropped: int = 0
    age: dict[str, float | None] = field(default_factory=dict)
    held_back: dict[str, str] = field(default_factory=dict)
    not_exported: dict[str, str] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    figures: list[tuple[str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    condition: Condition = field(default_factory=Condition)

    def counts(self) -> dict[str, Any]:
        """The counts, as the JSON summary has them."""
        return {
            "source": self.source,
            "raw": self.raw,
            "staging": self.staging,
            "consume": self.consume,
            "postgres": self.postgres,
            "dbt": self.dbt,
            "dead_letters": self.dead_letters,
            "dead_letters_dropped": self.dropped,
        }

    def dump(self) -> dict[str, Any]:
        """All of it, for `--json`."""
        return {
            **self.counts(),
            "age_seconds": self.age,
            "held_back": self.held_back,
            "not_exported": self.not_exported,
            "renamed_columns": self.renamed,
            "left_columns": self.left,
            "figures": dict(self.figures),
            "missing": self.missing,
            "problems": self.condition.dump()["problems"],
            "reconciliation": self.condition.dump()["reconciliation"],
        }


def gather(config: Config, endpoints: Endpoints | None) -> Report:
    """Ask every system for what it holds.

    Args:
        config: The configuration.
        endpoints: Where the services are; None asks only the lake.

    Raises:
        BatchError: Nothing has been published yet.
    """
    paths = LakePaths(config.data_dir)
    condition = look(config)
    if not paths.lake_db.exists():
        known = f" {condition.summary()}." if condition.problems else ""
        raise BatchError(
            f"Nothing has been published yet.{known}",
            "`ducklake status` says more." if known else "Run `ducklake batch --once` first.",
        )
    report = Report(condition=condition)
    with open_lake(config, for_writing=False) as lake:
        ledger = lake.ledger
        _ask_lake(config, ledger, paths, report)
        if endpoints is not None:
            _ask_sources(config, endpoints, report)
            _ask_postgres(config, endpoints, ledger, report)
    return report


def _ask_lake(config: Config, ledger: LedgerReader, paths: LakePaths, report: Report) -> None:
    now = time.time()
    run = ledger.runs.last()
    if run is not None:
        summary = run.summary
        report.dbt = {name: getattr(summary, name) for name in ("models", "tests", "failed")}
        report.held_back = dict(summary.held_back)
        report.not_exported = dict(summary.not_exported)
        report.left = dict(summary.left_columns)
    report.renamed = renamed_columns(config, ledger)
    with opened(paths.lake_db, read_only=True) as database:
        for ref, _ in config.tables():
            report.raw[ref.topic] = _count(database, f"raw.{quoted(config.relation(ref))}")
            newest = ledger.commits.newest_time(ref.topic)
            report.age[ref.topic] = None if newest is None else now - newest
        report.dead_letters = _count(database, "(FROM raw.dead_letters WHERE state = 'dead')")
        report.dropped = _count(database, "(FROM raw.dead_letters WHERE state = 'dropped')")
        for layer, counts in (("staging", report.staging), ("consume", report.consume)):
            views = database.execute(
                "SELECT view_name FROM duckdb_views() WHERE NOT internal"
                f" AND schema_name = {literal(layer)} ORDER BY view_name"
            ).fetchall()
            for (name,) in views:
                counts[name] = _count(database, f"{layer}.{quoted(name)}")
        for name, query in _FIGURES:
            try:
                row = database.execute(query).fetchone()
            except duckdb.Error:
                continue  # another project's models, or held back before they were ever published
            if row and row[0] is not None:
                report.figures.append((name, str(row[0])))


def _count(database: duckdb.DuckDBPyConnection, relation: str) -> int:
    try:
        row = database.execute(f"SELECT count(*) FROM {relation}").fetchone()
    except (duckdb.CatalogException, duckdb.BinderException):
        return 0  # a table that was configured, or a column that came, after the last cycle
    return int(row[0]) if row else 0


def _ask_sources(config: Config, endpoints: Endpoints, report: Report) -> None:
    for name, settings in config.settings.sources.items():
        if settings.type == FOREIGN:
            continue
        source = connector(config, endpoints, name)
        try:
            for table, rows in source.count().items():
                report.source[f"{name}.{table}"] = rows
        except DuckLakeError as error:
            report.missing.append(str(error))
        finally:
            source.close()


def _ask_postgres(
    config: Config, endpoints: Endpoints, ledger: LedgerReader, report: Report
) -> None:
    topics = {config.relation(ref): ref.topic for ref, _ in config.tables()}
    counts: dict[str, dict[str, int]] = {"raw": {}, "staging": {}, "consume": {}}
    try:
        for relation, rows in PostgresExport(config, endpoints.postgres, ledger).counts().items():
            schema, _, name = relation.partition(".")
            if schema == "raw" and name not in topics:
                continue  # dead letters are counted apart
            counts.setdefault(schema, {})[topics[name] if schema == "raw" else name] = rows
    except DuckLakeError as error:
        report.missing.append(str(error))
    report.postgres = counts


def show(report: Report, console: Console) -> None:
    """Print the report."""
    parts: list[RenderableType] = [_layers(report), Text(), _models(report), Text()]
    parts += [*problem_lines(report.condition), _verdict(report)]
    for relation, reason in report.not_exported.items():
        parts.append(Text(printable(f"not exported: {relation}: {reason}"), style="red"))
    for column, name in report.renamed.items():
        parts.append(Text(f"{column} is {name} in PostgreSQL"))
    parts += [Text(line, style="yellow") for line in left_lines(report.left)]
    if report.figures:
        table = Table("Business figure", "", title="The shop", title_justify="left", box=None)
        for name, text in report.figures:
            table.add_row(name, text)
        parts += [Text(), table]
    for text in report.missing:
        parts.append(Text(f"not asked: {text}", style="yellow"))
    console.print(Group(*parts))


def _layers(report: Report) -> Table:
    table = Table(title="Rows by layer", title_justify="left", box=None)
    table.add_column("Table")
    for name in ("Source", "Raw", "PostgreSQL raw", "Last commit", "Compared with MySQL"):
        table.add_column(name, justify="right")
    compared = {result.table: result for result in report.condition.reconciled}
    in_postgres: Mapping[str, int] = report.postgres.get("raw", {})
    for topic, rows in report.raw.items():
        table.add_row(
            topic,
            _number(report.source.get(topic)),
            _number(rows),
            _number(in_postgres.get(topic)),
            ago(report.age.get(topic)),
            reconciliation_text(compared.get(topic)),
        )
    return table


def _models(report: Report) -> Table:
    table = Table(title="Models", title_justify="left", box=None)
    table.add_column("Model")
    for name in ("DuckDB", "PostgreSQL"):
        table.add_column(name, justify="right")
    table.add_column("State")
    for layer, counts in (("staging", report.staging), ("consume", report.consume)):
        there = report.postgres.get(layer, {})
        held_back = {r.partition(".")[2] for r in report.held_back if r.startswith(f"{layer}.")}
        for name in sorted(counts.keys() | held_back):
            rows = counts.get(name)
            held = report.held_back.get(f"{layer}.{name}")
            told = printable(f"held back: {held}")
            state = Text(told, style="red") if held else Text("ok", style="green")
            table.add_row(f"{layer}.{name}", _number(rows), _number(there.get(name)), state)
    return table


def _verdict(report: Report) -> Text:
    failed = report.dbt.get("failed", 0)
    dropped = f", and {report.dropped} that were only counted" if report.dropped else ""
    text = (
        f"dbt: {report.dbt.get('models', 0)} models, {report.dbt.get('tests', 0)} tests,"
        f" {failed} failed. Dead letters: {report.dead_letters}{dropped}."
    )
    if report.condition.problems:
        text += " That is as of the last cycle: see the problems above."
    return Text(text, style="red" if failed or report.condition.problems else "green")


def _number(rows: int | None) -> str:
    return "" if rows is None else f"{rows:,}"
