"""How a cycle changes a model, told by dbt once, and then done without it.

dbt takes many times as long for a model as DuckDB does for the few rows that a cycle changes. So
its materialization (`dbt_ducklake/macros/change_tracked.sql`) says what it would run, and the batch
runs it, as long as the project's files and the columns of raw are the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

EQUALS, EQUALS_WITH_NULL = "/*ducklake:equals*/ =", "is not distinct from"


@dataclass(frozen=True, slots=True)
class Written:
    """What a script changed.

    Attributes:
        changes: Images of rows, before and after; 0: nothing is different.
        rows: Rows that were written.
    """

    changes: int
    rows: int


@dataclass(frozen=True, slots=True)
class ModelScript:
    """Statements and questions, as the macro `script` documents them; empty where not needed."""

    touch: str
    is_touched: str
    has_null: str
    rows: str
    is_applicable: str
    log: str
    written: str
    apply: str
    end: str

    def run(self, cursor: Any) -> Written | None:
        """Change the model, in one transaction.

        Args:
            cursor: Of the warehouse, opened as the project's profile says.

        Returns:
            What was changed; None: nothing was, since the model has to be built anew.

        Raises:
            Exception: Of DuckDB, or of the adapter around it; the model is as it was.
        """
        cursor.execute("BEGIN")
        try:
            written = self._run(cursor)
        except BaseException:
            cursor.execute("ROLLBACK")
            raise
        cursor.execute("ROLLBACK" if written is None else "COMMIT")
        return written

    def _run(self, cursor: Any) -> Written | None:
        equals = EQUALS
        if self.touch:
            cursor.execute(self.touch)
            if not asked(cursor, self.is_touched)[0]:
                # There may be changes of a cycle that was killed before it kept its state.
                return Written(*asked(cursor, self.written))
            if asked(cursor, self.has_null)[0]:
                equals = EQUALS_WITH_NULL
        cursor.execute(self.rows.replace(EQUALS, equals))
        if self.is_applicable and not asked(cursor, self.is_applicable)[0]:
            return None
        cursor.execute(self.log.replace(EQUALS, equals))
        written = Written(*asked(cursor, self.written))
        if written.changes:
            cursor.execute(self.apply.replace(EQUALS, equals))
        cursor.execute(self.end)
        return written


def scripts(results: Iterable[Any]) -> dict[str, ModelScript]:
    """Scripts by unique id of the model; a model that dbt cannot render has none."""
    found = {}
    for result in results:
        if result.node.resource_type == "model" and result.status == "success":
            found[result.node.unique_id] = ModelScript(**json.loads(result.message))
    return found


def asked(cursor: Any, question: str) -> tuple[Any, ...]:
    """The only row of a question's answer."""
    cursor.execute(question)
    return tuple(cursor.fetchone())
