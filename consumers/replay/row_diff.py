"""The same offsets as Kafka and as the lake have them, side by side in DuckDB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import duckdb
import pyarrow as pa

from lake.storage.casts import cast_expression
from lake.storage.checksum import checksum_query
from lake.storage.sql import quoted, rows_query

Columns = Sequence[tuple[str, str]]
"""(name, type) of each."""


class RowDiff:
    """Two sets of rows of one partition: what Kafka holds, decoded, and what the lake holds.

    Args:
        db: Where they are compared, as the temporary tables `kafka` and `held`.

    Attributes:
        former: Types that columns of text had before, by name (`Schema.former_types`): texts that
            are the same value of such a type are equal. To be set before `load`.
    """

    def __init__(self, db: duckdb.DuckDBPyConnection) -> None:
        self._db = db
        self._names: list[str] = []
        self.former: Mapping[str, Sequence[str]] = {}

    def load(
        self,
        rows: pa.Table | None,
        decoded: Columns,
        dead_letters: Sequence[int],
        held: str,
        columns: Columns,
    ) -> None:
        """Take two sets of rows in the place of the last ones.

        Args:
            rows: What Kafka holds.
            decoded: The columns of these.
            dead_letters: Offsets that the lake holds as dead letters: left out.
            held: A query of what the lake holds.
            columns: The columns of that, by which the two are compared.
        """
        self._names = [name for name, _ in columns]
        self._db.execute(f"CREATE OR REPLACE TEMP TABLE held AS {held}")
        self._db.execute(f"CREATE OR REPLACE TEMP TABLE kafka AS {rows_query(decoded, [])}")
        if rows is not None:
            self._db.register("decoded", rows)
            self._db.execute("INSERT INTO kafka BY NAME SELECT * FROM decoded")
            self._db.unregister("decoded")
        if dead_letters:
            self._db.execute(
                "DELETE FROM kafka WHERE _offset IN (SELECT unnest(?))", [list(dead_letters)]
            )
        printed = f"SELECT * {self._printed()} FROM"
        for side in ("kafka", "held"):
            self._db.execute(f"CREATE OR REPLACE TEMP VIEW {side}_cells AS {printed} {side}")

    def _printed(self) -> str:
        """SQL: columns that were no text before, printed as their former types do."""
        cells = []
        for name in self._names:
            cell = quoted(name)
            for type_ in self.former.get(name, ()):
                cell = f"coalesce({cast_expression(quoted(name), type_)}::VARCHAR, {cell})"
            if cell != quoted(name):
                cells.append(f"{cell} AS {quoted(name)}")
        return f"REPLACE ({', '.join(cells)})" if cells else ""

    def checksums(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(rows, checksum) in Kafka, and in the lake."""
        kafka, held = (
            self._db.execute(checksum_query(self._names, side)).fetchall()[0]
            for side in ("kafka_cells", "held_cells")
        )
        return (int(kafka[0]), int(kafka[1])), (int(held[0]), int(held[1]))

    def missing(self) -> list[int]:
        """Offsets that Kafka has and the lake has not."""
        return self._offsets("SELECT _offset FROM kafka ANTI JOIN held USING (_offset)")

    def extra(self) -> list[int]:
        """Offsets that the lake has and Kafka has not."""
        return self._offsets("SELECT _offset FROM held ANTI JOIN kafka USING (_offset)")

    def differing(self) -> list[int]:
        """Offsets at which the rows have other values."""
        names = ", ".join(map(quoted, self._names))
        return self._offsets(
            f"SELECT DISTINCT _offset FROM (SELECT {names} FROM kafka_cells SEMI JOIN held"
            f" USING (_offset) EXCEPT ALL SELECT {names} FROM held_cells)"
        )

    def from_kafka(self, offsets: Sequence[int]) -> pa.Table:
        """The rows that Kafka has at some offsets, in their order."""
        self._db.register("wanted", pa.table({"_offset": pa.array(offsets, pa.int64())}))
        rows = self._db.execute(
            "SELECT * FROM kafka SEMI JOIN wanted USING (_offset) ORDER BY _offset"
        ).to_arrow_table()
        self._db.unregister("wanted")
        return rows

    def _offsets(self, query: str) -> list[int]:
        return [offset for (offset,) in self._db.execute(f"{query} ORDER BY 1").fetchall()]
