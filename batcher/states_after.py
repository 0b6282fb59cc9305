"""How far each model is after a build."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import replace

from batcher.data_tests import FAIL, PASS, TestResult
from batcher.dbt_graph import ModelGraph
from batcher.model_state import Input, ModelState, WarehouseState
from batcher.outcome import Outcome
from batcher.selection import Plan


def after_full_tests(model: ModelState) -> ModelState:
    """A model's state after its tests have read everything.

    What they found may stand in rows that do not change any more: they read everything again until
    the model is green.
    """
    return model if model.failure is None else replace(model, tested=-1)


def failing_after(
    found: Iterable[TestResult], before: Mapping[str, float], known: Container[str]
) -> dict[str, float]:
    """The tests that have found something in rows which need not be new when they are asked again.

    What a test of raw, or one that only warns, has found does not keep its rows among those that
    are new to it. The same is true of one that could not run.

    Args:
        found: What the tests of a cycle came to.
        before: The tests of which that was true before it.
        known: Unique ids of the project's tests: one that was removed is forgotten.
    """
    after = {name: seconds for name, seconds in before.items() if name in known}
    for result in found:
        test = result.test
        if not result.is_settled:
            continue
        after.pop(test.unique_id, None)
        reads_raw = any(name.startswith("raw.") for name in test.relations)
        if result.status != PASS and (reads_raw or result.status != FAIL):
            after[test.unique_id] = result.seconds
    return after


def states_after(
    graph: ModelGraph,
    plan: Plan,
    outcome: Outcome,
    before: WarehouseState,
    inputs: Mapping[str, Input],
    day: str,
) -> dict[str, ModelState]:
    """Each model's state after a build."""
    passed = {model.relation for model in outcome.passed}
    chosen = {model.relation for model in plan.models}
    failed = {
        name: f"test {test.name}: {test.status}"
        for test in outcome.failures
        if test.status != "warn"
        for name in test.relations
    }
    states = {}
    for model in graph.models:
        known = before.models.get(model.relation)
        failure = outcome.held_back.get(model.relation) or failed.get(model.relation)
        if model.relation not in chosen:
            if known is not None:  # nothing of what it reads is newer: it is as of this commit
                read = {name: inputs[name] for name in known.inputs if name in inputs}
                states[model.relation] = replace(
                    known, failure=known.failure or failure, inputs=read
                )
        elif model.relation in outcome.built:
            green = model.relation in passed
            tested = before.number if green else (known.tested if known else -1)
            tests = model.tests if green else (known.tests if known else "")
            read = {name: inputs[name] for name in model.sources if name in inputs}
            failure = None if green else failure
            states[model.relation] = ModelState(
                before.number,
                tested,
                model.fingerprint,
                day,
                read,
                failure,
                tests,
                model.described,
            )
        elif known is not None:
            states[model.relation] = replace(known, failure=failure or "not built")
    return states
