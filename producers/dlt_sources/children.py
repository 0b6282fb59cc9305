"""Rows that are nested in the rows of a resource, as tables of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lake.config import Section, Source, Table, nearest
from lake.records import Record
from producers.base import Problem, record_key
from producers.dlt_sources.options import DltTable


@dataclass(frozen=True, slots=True)
class Children:
    """The child tables of a source.

    Attributes:
        parents: Child table to the table in whose rows its own are nested.
        names: Child table to the column there.
    """

    parents: Mapping[str, str]
    names: Mapping[str, str]

    @classmethod
    def of(cls, source: str, options: Mapping[str, Section]) -> Children:
        """Those that the options of the tables name."""
        parents, names = {}, {}
        for table, found in options.items():
            assert isinstance(found, DltTable)
            if found.child_of is not None:
                parents[table] = found.child_of
                names[table] = found.field or default_field(table, found.child_of)
        return cls(parents, names)

    def fields(self, parent: str) -> dict[str, str]:
        """Column to child table of one parent."""
        return {self.names[t]: t for t, found in self.parents.items() if found == parent}


def default_field(table: str, parent: str) -> str:
    """The column whose rows a child table has, where nobody names it."""
    return table.removeprefix(parent).lstrip("_")


def with_children(
    table: str,
    spec: Table,
    values: Mapping[str, Any],
    about: Mapping[str, Any],
    nested: Mapping[str, str],
) -> Iterator[Record]:
    """A row without what is nested in it, and then that, row by row.

    A child has the number of its parent's version and its place among its siblings, so that the
    children of the current version are told from those of earlier ones.

    Args:
        table: The parent.
        spec: Its section.
        values: The row.
        about: Its provenance; `row_no` is its number among all rows that were ever sent.
        nested: Column to child table.
    """
    own = {name: value for name, value in values.items() if name not in nested}
    key = record_key(spec, own)
    yield Record(table, key, own, about)
    parent = {f"{table}_{name}": own.get(name) for name in spec.key}
    for name, child in nested.items():
        found = values.get(name)
        items = found if isinstance(found, list) else [] if found is None else [found]
        for place, item in enumerate(items, 1):
            value = item if isinstance(item, Mapping) else {"value": item}
            yield Record(child, key, value, {**about, **parent, "child_no": place})


def child_problems(source: Source) -> Iterator[Problem]:
    """Child tables that cannot be."""
    for table, spec in source.tables.items():
        parent = spec.options.get("child_of")
        if not isinstance(parent, str):
            if spec.options.get("field"):
                yield Problem(("tables", table, "options", "field"), "it needs `child_of`")
            continue
        at = ("tables", table, "options", "child_of")
        if parent not in source.tables:
            yield Problem(at, f"there is no table {parent!r}{nearest(parent, source.tables)}")
        elif parent == table or source.tables[parent].options.get("child_of"):
            yield Problem(at, "name a table whose rows a resource has", "Deeper rows stay JSON.")
        if spec.options.get("resource") or spec.options.get("incremental"):
            yield Problem(at, "a child table has neither `resource` nor `incremental`")
        if not (spec.options.get("field") or default_field(table, parent)):
            yield Problem(at, "name the column in `field`")
        if spec.key:
            yield Problem(("tables", table, "key"), "a child table has the key of its parent")
