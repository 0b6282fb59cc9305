"""One query over the published file, in a process of its own that can be killed.

Reads one JSON object from standard input and writes the result to standard output. DuckDB opens the
file read-only; the query may read the files of the lake to which its views point, and nothing else:
no other file, no network, no extension, no change of a setting.
"""

from __future__ import annotations

import csv
import io
import json
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

MEMORY_MB = 512
ADDRESS_SPACE_MB = 4096
_READ = ("raw", "generations", "published")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Refused(Exception):
    """A query that is not run, with the reason."""


def main() -> None:
    """Answer one request."""
    wish = json.load(sys.stdin)
    limit = ADDRESS_SPACE_MB * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        table, is_cut = run(Path(wish["data"]), wish["sql"], int(wish["rows"]))
        sys.stdout.buffer.write(rendered(table, is_cut, wish["format"]))
    except (duckdb.Error, Refused, MemoryError) as error:
        print(str(error) or "It needs more memory than it may have.", file=sys.stderr)
        sys.exit(2)


def run(data: Path, sql: str, rows: int) -> tuple[pa.Table, bool]:
    """Run one SELECT.

    Args:
        data: The data folder.
        sql: The statement.
        rows: At most so many are returned.

    Returns:
        The rows, and whether there were more.

    Raises:
        Refused: It is not a single SELECT.
        duckdb.Error: DuckDB refuses it.
    """
    statements = duckdb.extract_statements(sql)
    if len(statements) != 1:
        raise Refused("Give one statement.")
    if statements[0].type not in (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN):
        raise Refused("Only SELECT is allowed here: the published file is read-only.")
    database = duckdb.connect(str(data / "lake.duckdb"), read_only=True)
    listed = ", ".join("'" + str(data / name).replace("'", "''") + "/'" for name in _READ)
    for setting in (
        "TimeZone = 'UTC'",
        f"memory_limit = '{MEMORY_MB}MB'",
        "threads = 1",
        "temp_directory = ''",
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "python_enable_replacements = false",
        f"allowed_directories = [{listed}]",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        database.execute(f"SET {setting}")
    reader = database.execute(statements[0]).to_arrow_reader(2048)
    batches, count = [], 0
    for batch in reader:
        batches.append(batch)
        count += batch.num_rows
        if count > rows:
            break
    table = pa.Table.from_batches(batches, reader.schema)
    return table.slice(0, rows), count > rows


def rendered(table: pa.Table, is_cut: bool, format_: str) -> bytes:
    """A result as JSON, CSV or Parquet."""
    if format_ == "parquet":
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        return bytes(sink.getvalue())
    lines = [tuple(_text(value) for value in row.values()) for row in _rows(table)]
    if format_ == "csv":
        return _csv(table, lines)
    columns = [{"name": field.name, "type": str(field.type)} for field in table.schema]
    return json.dumps({"columns": columns, "rows": lines, "truncated": is_cut}).encode()


def _rows(table: pa.Table) -> list[dict[int, Any]]:
    columns = [column.to_pylist() for column in table.columns]
    return [dict(enumerate(row)) for row in zip(*columns, strict=True)]


def _csv(table: pa.Table, lines: Sequence[Sequence[str | None]]) -> bytes:
    """With a quote before text that a spreadsheet would take for a formula."""
    text = [pa.types.is_string(f.type) or pa.types.is_large_string(f.type) for f in table.schema]
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(_harmless(name) for name in table.column_names)
    for line in lines:
        writer.writerow(
            _harmless(value) if is_text else value
            for value, is_text in zip(line, text, strict=True)
        )
    return out.getvalue().encode()


def _harmless(value: str | None) -> str | None:
    return f"'{value}" if value and value.startswith(_FORMULA) else value


def _text(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return str(value)


if __name__ == "__main__":
    main()
