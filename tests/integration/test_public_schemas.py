"""sakila and employees, streamed onto an empty database and changed, end equal to MySQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from lake.config import Config
from tests.integration import public_schemas as schemas
from tests.integration.following import as_root, consumer_running, following, run
from tests.integration.producers_lab import shop_server, unique

pytestmark = pytest.mark.stack


@dataclass(frozen=True)
class PublicSchema:
    """A schema, and what is done to it.

    Attributes:
        tables: Columns and constraints by name, in an order in which they can be made.
        rest: Triggers, views and functions.
        rows: INSERTs.
        changes: Statements that follow, cascades at the end.
        cascaded: Tables whose rows a cascade changes.
    """

    tables: Mapping[str, str]
    rest: Iterable[str]
    rows: Iterable[str]
    changes: Iterable[str]
    cascaded: frozenset[str]


PUBLIC = {
    "sakila": PublicSchema(
        schemas.SAKILA_TABLES,
        schemas.SAKILA_REST,
        tuple(schemas.sakila_rows()),
        schemas.SAKILA_CHANGES,
        frozenset({"film_actor", "city", "payment"}),
    ),
    "employees": PublicSchema(
        schemas.EMPLOYEES_TABLES,
        schemas.EMPLOYEES_REST,
        tuple(schemas.employees_rows()),
        schemas.EMPLOYEES_CHANGES,
        frozenset({"dept_emp", "titles", "salaries"}),
    ),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_schema_streamed_onto_an_empty_database_and_changed_ends_equal(
    name: str, tmp_path: Path, stack_config: Config
) -> None:
    public, database = PUBLIC[name], unique(name)
    with as_root(stack_config) as cursor:
        run(cursor, [f"CREATE DATABASE {database}"])
        user = shop_server(stack_config).user
        run(cursor, [f"GRANT ALL ON {database}.* TO '{user}'@'%'", f"USE {database}"])
        tables = {table: {"database": database} for table in public.tables}
        with following(tmp_path, stack_config, tables) as made:
            made.deliver()
            listed = (f"CREATE TABLE {table} ({what})" for table, what in public.tables.items())
            run(cursor, [*listed, *public.rest, *public.rows])
            made.take()
            for table in public.tables:
                result = made.reconcile(table)
                assert (result.state, result.lake_rows) == ("equal", result.source_rows), result
                assert result.source_rows, table
            run(cursor, list(public.changes))
            made.deliver()
            with consumer_running(made):
                states = {table: made.reconcile(table) for table in public.tables}
                unequal = {t for t, result in states.items() if result.state != "equal"}
                assert unequal == public.cascaded, states
                for table in public.cascaded:
                    result = made.reconcile(table, repair=True)
                    assert result.state == "equal", result
        run(cursor, [f"DROP DATABASE {database}"])
