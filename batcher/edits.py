"""What edits of a dbt project will have the next cycle build, told without a cycle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from batcher.dbt_graph import ModelGraph
from batcher.model_state import Input, ModelState, WarehouseState
from batcher.selection import select
from lake.storage.json_files import read_json, replace_json
from lake.storage.paths import LakePaths


@dataclass(frozen=True, slots=True)
class Definition:
    """A model as it was when it was last built.

    Attributes:
        fingerprint: Of everything that defines it.
        tests: Fingerprint of its data tests.
        described: Differs whenever its description does.
    """

    fingerprint: str
    tests: str
    described: str


@dataclass(frozen=True, slots=True)
class Edits:
    """What differs in a project from what its models were built from.

    Attributes:
        built: Relation to the reason for which the next cycle builds it, those that others read
            first.
        removed: Relations that the project has no longer.
    """

    built: Mapping[str, str]
    removed: tuple[str, ...]


def keep_definitions(paths: LakePaths, graph: ModelGraph, states: Mapping[str, ModelState]) -> None:
    """Keep what each model was built from: the warehouse is locked while a cycle runs.

    Args:
        paths: The lake.
        graph: The project's models, as the cycle had them.
        states: How far each of them is after it.
    """
    found = {}
    for model in graph.models:
        state = states.get(model.relation)
        if state is not None:
            # Of one that is not green the state has the tests that last passed.
            tests = state.tests if state.failure is None else model.tests
            found[model.relation] = asdict(Definition(state.fingerprint, tests, state.described))
    if found != read_json(paths.definitions):
        replace_json(paths.definitions, found)


def read_definitions(paths: LakePaths) -> Mapping[str, Definition] | None:
    """What each model was built from; None where no cycle has said so."""
    if not paths.definitions.exists():
        return None
    return {
        relation: Definition(**about) for relation, about in read_json(paths.definitions).items()
    }


def edits(graph: ModelGraph, known: Mapping[str, Definition]) -> Edits:
    """What the next cycle builds because of edits alone, were there no new row.

    Args:
        graph: The project's models as they are now.
        known: What they were built from.
    """
    models = tuple(replace(m, reads_today=False, reads_elsewhere=False) for m in graph.models)
    inputs = {name: Input(0, 0, "") for model in models for name in model.sources}
    states = {
        relation: ModelState(
            0, 0, about.fingerprint, inputs=inputs, tests=about.tests, described=about.described
        )
        for relation, about in known.items()
    }
    same = ModelGraph(models, graph.sources)
    chosen = select(same, WarehouseState(1, states), inputs, "", lambda name, commit: False)
    removed = tuple(sorted(known.keys() - same.by_relation.keys()))
    return Edits(chosen.why, removed)
