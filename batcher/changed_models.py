"""Changes models by their scripts, in order, and stops behind those in which nothing changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from batcher.dbt_graph import ModelNode
from batcher.model_scripts import ModelScript, Written, asked
from batcher.model_state import WarehouseState, last_rebuilt
from batcher.selection import Plan

SUCCESS, ERROR, SKIPPED = "success", "error", "skipped"


@dataclass(frozen=True, slots=True)
class ModelResult:
    """What a model came to, as dbt's results tell it.

    Attributes:
        node: dbt's node.
        status: `success`, `error`, or `skipped` (a model that it reads was not built).
        message: What went wrong.
        execution_time: In seconds.
        is_unchanged: Nothing was done, since nothing that it reads had changed.
    """

    node: Any
    status: str
    message: str = ""
    execution_time: float = 0.0
    is_unchanged: bool = False


@dataclass(slots=True)
class ChangedModels:
    """The models of a plan that need no dbt.

    Attributes:
        plan: What was chosen.
        state: How far each model was.
        scripts: By unique id.
        nodes: dbt's nodes, by unique id.
        results: What has been done.
        left: Models that dbt has to build, those that others read first.
        rows: Relation to the number of rows that were written.
    """

    plan: Plan
    state: WarehouseState
    scripts: Mapping[str, ModelScript]
    nodes: Mapping[str, Any]
    results: list[ModelResult] = field(default_factory=list)
    left: list[ModelNode] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    _failed: set[str] = field(default_factory=set)
    _unchanged: set[str] = field(default_factory=set)

    def run(self, cursor: Any, moved: Callable[[], None]) -> None:
        """Change them.

        Args:
            cursor: Of the warehouse, opened as the project's profile says.
            moved: Called before each model.
        """
        rebuilt = last_rebuilt(partial(asked, cursor))
        tables = _tables(cursor)
        chosen = {model.unique_id for model in self.plan.models}
        for model in self.plan.models:
            moved()
            if self._failed.intersection(model.parents):
                self._failed.add(model.unique_id)
                self.results.append(ModelResult(self.nodes[model.unique_id], SKIPPED))
            elif self._reads_nothing_new(model, chosen):
                self._end(model, Written(0, 0), 0.0, is_unchanged=True)
            elif self._needs_dbt(model, rebuilt, tables):
                self.left.append(model)
            else:
                self._change(model, cursor)

    def _needs_dbt(self, model: ModelNode, rebuilt: Mapping[str, int], tables: set[str]) -> bool:
        """Whether it has no script, has to be built from nothing, or reads one that dbt builds."""
        if model.unique_id not in self.scripts or model.relation in self.plan.full:
            return True
        if not {model.relation, f"ducklake.changes.{model.relation}"} <= tables:
            return True
        if any(each.unique_id in model.parents for each in self.left):
            return True
        seen = self.state.models[model.relation].seen
        return any(rebuilt.get(self._relation(parent), -1) > seen for parent in model.parents)

    def _reads_nothing_new(self, model: ModelNode, chosen: set[str]) -> bool:
        """Whether it was chosen for what it reads, and that turned out to be as it was."""
        if model.relation not in self.plan.behind:
            return False
        seen = self.state.models[model.relation].seen
        for parent in model.parents:
            if parent in chosen and parent not in self._unchanged:
                return False
            then = self.state.models.get(self._relation(parent))
            if then is None or then.seen > seen:
                return False
        return True

    def _relation(self, unique_id: str) -> str:
        node = self.nodes[unique_id]
        return f"{node.schema}.{node.alias}"

    def _change(self, model: ModelNode, cursor: Any) -> None:
        began = time.monotonic()
        try:
            written = self.scripts[model.unique_id].run(cursor)
        except Exception as error:  # of DuckDB, or of the adapter around it
            text = str(getattr(error, "msg", error)).strip()
            node = self.nodes[model.unique_id]
            self._failed.add(model.unique_id)
            self.results.append(ModelResult(node, ERROR, text, time.monotonic() - began))
            return
        if written is None:
            self.left.append(model)
        else:
            self._end(model, written, time.monotonic() - began)

    def _end(
        self, model: ModelNode, written: Written, seconds: float, is_unchanged: bool = False
    ) -> None:
        if not written.changes:
            self._unchanged.add(model.unique_id)
        if model.is_tracked:
            self.rows[model.relation] = written.rows
        node = self.nodes[model.unique_id]
        self.results.append(ModelResult(node, SUCCESS, "", seconds, is_unchanged))


def _tables(cursor: Any) -> set[str]:
    cursor.execute(
        "SELECT schema_name || '.' || table_name FROM duckdb_tables()"
        " WHERE database_name = current_database()"
    )
    return {name for (name,) in cursor.fetchall()}
