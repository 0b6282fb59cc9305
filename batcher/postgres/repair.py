"""Everything in PostgreSQL compared with the lake, and mended: what somebody changed, or lost.

The lake's rows are copied beside a table, so that both are PostgreSQL's values; a count and a
checksum say whether they differ, and only then are rows compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from psycopg2 import sql

from batcher.postgres.columns import WantedColumn, known_table
from batcher.postgres.copying import Source
from batcher.postgres.database import PostgresDatabase, claim, identifier, lock_for_writing
from batcher.postgres.exports import Exported, Exports, count_rows
from batcher.postgres.left_columns import empty
from batcher.postgres.model_export import MODELS
from batcher.postgres.model_rows import ModelRows
from batcher.postgres.model_writer import ModelWriter
from batcher.postgres.primary_keys import has_key
from batcher.postgres.raw_writer import RawState, RawWriter
from batcher.postgres.staged_rows import STAGED, Difference, remove_others, stage, upsert
from lake.errors import CommitConflict
from lake.failpoints import failpoint


@dataclass(frozen=True, slots=True)
class Repair:
    """Compares relations with the lake.

    Attributes:
        database: Where they are.
        exports: What was exported.
        source: Where the lake's queries run.
    """

    database: PostgresDatabase
    exports: Exports
    source: Source

    def model(self, model: ModelRows) -> Difference:
        """Make a model's table what the lake has published.

        Raises:
            ServiceUnreachable: The database does not answer, or another export writes it.
            BatchError: The table does not take the rows.
        """
        writer, relation = ModelWriter.of(model, self.source), model.relation
        writer.prepare(self.database, self.exports)
        with self.database.transaction(relation) as cursor:
            claim(cursor, MODELS)
            difference = writer.write(cursor, self.exports)
            lock_for_writing(cursor, relation)
            stage(cursor, self.source, relation, model.whole(), writer.key)
            if not _are_equal(cursor, relation, writer.columns):
                if writer.key and has_key(cursor, relation, writer.key):
                    removed = remove_others(cursor, relation, writer.key)
                    mended = Difference(
                        *upsert(cursor, relation, writer.columns, writer.key), removed
                    )
                else:
                    mended = _mend_rows(cursor, relation, writer.columns)
                self._count_again(cursor, relation)
                difference = difference + mended
            difference = difference + self._emptied(cursor, relation)
            failpoint("export.repair.mended")
        writer.finish(self.database)
        return difference

    def raw(self, writer: RawWriter) -> Difference:
        """Make a raw table what the lake has up to the writer's commit.

        Raises:
            CommitConflict: Another export was further: pin a newer commit, and try again.
            ServiceUnreachable: The database does not answer, or another export writes it.
            BatchError: The table does not take the rows.
        """
        added = writer.write(self.database, self.exports, self.source)
        relation = writer.relation
        with self.database.transaction(relation) as cursor:
            claim(cursor, relation)
            table = known_table(cursor, relation)
            known = self.exports.known(cursor, [relation]).get(relation)
            if table is None or known is None or RawState.load(known.state).commit > writer.commit:
                raise CommitConflict(f"PostgreSQL: {relation} was exported meanwhile.")
            lock_for_writing(cursor, relation)
            rows = writer.whole()
            columns = self.source.columns(rows)
            stage(cursor, self.source, relation, rows, ())
            difference = Difference(added=added)
            if not _are_equal(cursor, relation, columns):
                difference = difference + _mend_rows(cursor, relation, columns)
                self._count_again(cursor, relation, known)
            difference = difference + self._emptied(cursor, relation)
            failpoint("export.repair.mended")
        return difference

    def _emptied(self, cursor: Any, relation: str) -> Difference:
        """Empty what somebody has written into columns that the rows have no longer."""
        left, table = self.exports.made(cursor, relation).left, known_table(cursor, relation)
        there = [name for name in left if table is not None and name in table.columns]
        return Difference(changed=empty(cursor, relation, there))

    def _count_again(self, cursor: Any, relation: str, known: Exported | None = None) -> None:
        if known is None:
            known = self.exports.known(cursor, [relation])[relation]
        rows = count_rows(cursor, relation)
        self.exports.record(cursor, relation, replace(known, rows=rows))


def _are_equal(cursor: Any, relation: str, columns: Sequence[WantedColumn]) -> bool:
    """Whether the staged rows and those of the table have one count and one checksum."""
    sums = []
    for table in (STAGED, identifier(relation)):
        statement = sql.SQL(
            "SELECT count(*), sum(hashtextextended({}, 0)::numeric), "
            " sum(hashtextextended({}, 1)::numeric) FROM {} t"
        )
        row = _row(columns)
        cursor.execute(statement.format(row, row, table))
        sums.append(cursor.fetchone())
    return bool(sums[0] == sums[1])


def _row(columns: Sequence[WantedColumn]) -> sql.Composable:
    """A row's values as one text; two rows with one text are the same."""
    names = sql.SQL(", ").join(sql.Identifier("t", column.target) for column in columns)
    return sql.SQL("ROW({})::text").format(names)


def _mend_rows(cursor: Any, relation: str, columns: Sequence[WantedColumn]) -> Difference:
    """Delete rows that are not staged, and add those that are missing, by their whole contents."""
    table, row = identifier(relation), _row(columns)
    names = sql.SQL(", ").join(sql.Identifier(column.target) for column in columns)
    numbered = "md5({row}) AS hash, row_number() OVER (PARTITION BY md5({row})) AS number"
    counted = "SELECT md5({row}) AS hash, count(*) AS rows FROM {of} t GROUP BY 1"
    delete = sql.SQL(
        f"WITH mine AS (SELECT t.ctid AS place, {numbered} FROM {{table}} t),"
        f" theirs AS ({counted}) DELETE FROM {{table}} WHERE ctid IN"
        " (SELECT place FROM mine LEFT JOIN theirs USING (hash)"
        "  WHERE mine.number > coalesce(theirs.rows, 0))"
    )
    cursor.execute(delete.format(row=row, table=table, of=STAGED))
    removed = int(cursor.rowcount)
    insert = sql.SQL(
        f"WITH theirs AS (SELECT t.*, {numbered} FROM {{staged}} t), mine AS ({counted})"
        " INSERT INTO {table} ({names}) SELECT {names} FROM theirs LEFT JOIN mine USING (hash)"
        " WHERE theirs.number > coalesce(mine.rows, 0)"
    )
    cursor.execute(insert.format(row=row, table=table, staged=STAGED, of=table, names=names))
    return Difference(added=int(cursor.rowcount), removed=removed)
