"""Which models a cycle builds: those before which something changed since they were last green."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from batcher.dbt_graph import ModelGraph, ModelNode
from batcher.model_state import Input, ModelState, WarehouseState

HasNew = Callable[[str, int], bool]
"""Whether a raw relation has rows that were committed after a commit."""
NEW, EDITED = "new model", "definition changed"
RETESTED, DESCRIBED = "tests changed", "description changed"
"""Why a model is built because of its project alone."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a cycle does.

    Attributes:
        models: To be built, those that others read first.
        full: Relations to be built from nothing.
        why: Relation to the reason for which it was chosen first.
        since: Raw relation to the commit after which its rows are new to some model.
        whole: Raw relations that are read as a whole.
        behind: Relations that were chosen only because of a model before them.
        read: Relation to the commit that it had read; 0: it is built from nothing.
        retested: Relations of which tests were edited since they passed: they read whole tables.
    """

    models: tuple[ModelNode, ...]
    full: frozenset[str] = frozenset()
    why: Mapping[str, str] = field(default_factory=dict)
    since: Mapping[str, int] = field(default_factory=dict)
    whole: frozenset[str] = frozenset()
    behind: frozenset[str] = frozenset()
    read: Mapping[str, int] = field(default_factory=dict)
    retested: frozenset[str] = frozenset()


def select(
    graph: ModelGraph,
    state: WarehouseState,
    inputs: Mapping[str, Input],
    day: str,
    has_new: HasNew,
    rebuild: frozenset[str] = frozenset(),
) -> Plan:
    """Choose the models of a cycle.

    Args:
        graph: The project's models.
        state: How far each of them is.
        inputs: Every raw relation as it is now.
        day: Today in Argentina.
        has_new: Asks the ledger.
        rebuild: Relations to be built from nothing on request.
    """
    chosen: list[ModelNode] = []
    full, why, ids, behind = set[str](), dict[str, str](), set[str](), set[str]()
    for model in graph.models:
        known = state.models.get(model.relation)
        reason = _whole(model, known, inputs, rebuild)
        if reason is not None:
            full.add(model.relation)
        else:
            assert known is not None
            reason = _changed(model, known, inputs, day, has_new)
            if reason is None:
                reason = _before(graph, state, model, ids)
                behind |= {model.relation} if reason else set()
        if reason is not None:
            chosen.append(model)
            ids.add(model.unique_id)
            why[model.relation] = reason
    since, whole = _views(chosen, full, state, inputs)
    retested = [m for m in chosen if _has_other_tests(m, state.models.get(m.relation))]
    read = {model.relation: _read(model, state, full) for model in chosen if model.sources}
    return Plan(
        tuple(chosen),
        frozenset(full),
        why,
        since,
        frozenset(whole),
        frozenset(behind),
        read,
        frozenset(r for m in retested for r in (m.relation, *(f"raw.{n}" for n in m.sources))),
    )


def _views(
    chosen: Sequence[ModelNode],
    full: set[str],
    state: WarehouseState,
    inputs: Mapping[str, Input],
) -> tuple[dict[str, int], set[str]]:
    """From which commit each raw relation is read, and which are read as a whole."""
    since: dict[str, int] = {}
    whole: set[str] = set()
    for model in chosen:
        known = state.models.get(model.relation)
        for name in model.sources:
            reads_all = model.relation in full or not model.reads_versions
            if reads_all:
                whole.add(name)
            seen = known.inputs[name].commit if known and name in known.inputs else 0
            after = inputs[name].commit if model.relation in full and name in inputs else seen
            since[name] = min(since.get(name, after), after)
    return since, whole


def _read(model: ModelNode, state: WarehouseState, full: set[str]) -> int:
    """The commit that a model had read of all that it reads from raw."""
    if model.relation in full:
        return 0
    return min(state.models[model.relation].inputs[name].commit for name in model.sources)


def _whole(
    model: ModelNode,
    known: ModelState | None,
    inputs: Mapping[str, Input],
    rebuild: frozenset[str],
) -> str | None:
    """Why a model has to be built from nothing."""
    if known is None:
        return NEW
    if model.relation in rebuild:
        return "requested"
    if known.fingerprint != model.fingerprint:
        return EDITED
    for name in model.sources:
        now, then = inputs.get(name), known.inputs.get(name)
        if now is None or then is None or now.generation != then.generation:
            return f"raw.{name} was rebuilt"
        if model.reads_versions and now.schema != then.schema:
            return f"columns of raw.{name} changed"
    return None


def _changed(
    model: ModelNode,
    known: ModelState,
    inputs: Mapping[str, Input],
    day: str,
    has_new: HasNew,
) -> str | None:
    """Why a model is built because of itself or of what it reads from raw."""
    if known.failure is not None:
        return "not green"
    if model.reads_elsewhere:
        return "reads a source that is not the lake's"
    for name in model.sources:
        if has_new(name, known.inputs[name].commit):
            return f"new rows in raw.{name}"
        if inputs[name].schema != known.inputs[name].schema:
            return f"raw.{name} changed"
    if model.reads_today and known.day != day:
        return "new day"
    if _has_other_tests(model, known):
        return RETESTED
    return DESCRIBED if known.described != model.described else None


def _has_other_tests(model: ModelNode, known: ModelState | None) -> bool:
    return known is not None and known.tests != model.tests


def _before(
    graph: ModelGraph, state: WarehouseState, model: ModelNode, chosen: set[str]
) -> str | None:
    """Why a model is built because of those that it reads."""
    for parent in model.parents:
        relation = graph.by_id[parent].relation
        if parent in chosen:
            return f"{relation} is built"
        then = state.models.get(relation)
        if then is not None and then.seen > state.models[model.relation].seen:
            return f"{relation} was built"
    return None
