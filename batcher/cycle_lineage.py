"""What a cycle did, as OpenLineage tells it: a run for each model and each table in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from batcher.catalog import opened
from batcher.dbt_graph import ModelGraph, ModelNode
from batcher.model_build import BuildResult
from batcher.postgres import ExportResult
from batcher.postgres.export_steps import copying, having, raw_export_step
from batcher.postgres.raw_writer import RawWriter
from lake.config import Config
from lake.ledger import LedgerReader
from lake.openlineage.datasets import Columns, DatasetNames
from lake.openlineage.events import BATCH, Step
from lake.openlineage.recording import consume_step, cycle_ended, problem_of
from lake.openlineage.runs import Finished, FinishedCycle
from lake.storage.paths import LakePaths
from lake.storage.sql import quoted_relation

CYCLE = Step("cycle", processing=BATCH)
NOT_EXPORTED = "PostgreSQL keeps its last state: `ducklake status` has the reason and the remedy."
HELD_BACK = "Its last good state stays published: `ducklake failures` has the rows."


@dataclass(frozen=True, slots=True)
class CycleFacts:
    """What a cycle did.

    Attributes:
        built: Its models.
        started: In seconds of the epoch.
        seconds: Duration of each step: dbt, publish, export.
        exported: What reached PostgreSQL.
        is_exported: Whether PostgreSQL answered.
    """

    built: BuildResult
    started: float
    seconds: Mapping[str, float]
    exported: ExportResult
    is_exported: bool


def tell_cycle(config: Config, ledger: LedgerReader, facts: CycleFacts) -> None:
    """Tell of a cycle that is over."""
    paths = ledger.paths
    cycle_ended(
        lambda names: finished_cycle(names, facts),
        lambda names: all_steps(config, ledger, facts.built.graph, names),
        lambda due: _with_columns(paths, due),
    )


def tell_failed(started: float, ended: float, error: Exception) -> None:
    """Tell of a cycle that came to nothing."""
    found = FinishedCycle(Finished(CYCLE, started, ended, None, problem_of(error)))
    cycle_ended(lambda names: found)


def finished_cycle(names: DatasetNames, facts: CycleFacts) -> FinishedCycle:
    """The runs within a cycle; of each it is known how long it took, not when it began."""
    published = facts.started + facts.seconds["dbt"] + facts.seconds["publish"]
    ended = published + facts.seconds["export"]
    problem = "" if facts.is_exported else NOT_EXPORTED
    cycle = Finished(CYCLE, facts.started, ended, None, problem)
    parts = [*_models(names, facts), *_exports(names, facts, published, ended)]
    return FinishedCycle(cycle, parts)


def _models(names: DatasetNames, facts: CycleFacts) -> Iterator[Finished]:
    built, outcome = facts.built, facts.built.outcome
    for model in built.graph.models:
        took = outcome.seconds.get(model.relation)
        held = model.relation in outcome.held_back
        if took is None and not held:
            continue
        state = built.state.models.get(model.relation)
        schemas = sorted((n, i.schema) for n, i in state.inputs.items()) if state else []
        yield Finished(
            model_step(names, built.graph, model),
            facts.started,
            facts.started + (took or 0.0),
            built.rows.get(model.relation),
            _why(outcome.held_back[model.relation]) if held else "",
            f"{model.fingerprint} {schemas}",
        )


def _exports(
    names: DatasetNames, facts: CycleFacts, began: float, ended: float
) -> Iterator[Finished]:
    raw = {f"raw.{names.config.relation(ref)}" for ref, _ in names.config.tables()}
    versions = {model.relation: model.fingerprint for model in facts.built.graph.models}
    for relation, written in facts.exported.differences.items():
        if relation not in raw:
            rows = written.added + written.changed + written.removed
            step = export_step(names, relation)
            yield Finished(step, began, ended, rows, "", versions.get(relation, ""))
    for relation in facts.exported.held_back:
        if relation not in raw:
            yield Finished(export_step(names, relation), began, ended, None, NOT_EXPORTED)


def _why(reason: str) -> str:
    """Why a model is held back: what dbt says of a statement may quote a value, and stays here."""
    is_plain = reason.startswith("depends on ") or (
        reason.startswith("test ") and reason.endswith((": fail", ": error"))
    )
    return f"{reason}. {HELD_BACK}" if is_plain else HELD_BACK


# Steps -----------------------------------------------------------------------------------------


def model_step(names: DatasetNames, graph: ModelGraph, model: ModelNode) -> Step:
    """A model, and what it reads."""
    reads = [graph.by_id[parent].relation for parent in model.parents]
    reads += [f"raw.{source}" for source in model.sources]
    inputs = tuple(names.relation(relation) for relation in reads)
    return Step(f"dbt.{model.relation}", inputs, (names.model(model.relation),), BATCH)


def export_step(names: DatasetNames, relation: str) -> Step:
    """A model's way to PostgreSQL."""
    datasets = (names.model(relation),), (names.postgres(relation),)
    return Step(f"export.{relation}", *datasets, BATCH)


def all_steps(
    config: Config, ledger: LedgerReader, graph: ModelGraph, names: DatasetNames
) -> Iterator[Step]:
    """All jobs from the topics on, whether or not there is something new for them."""
    commit = ledger.commits.last()
    for ref, table in config.tables():
        schema = ledger.tables.schema_at(ref.topic, commit)
        if schema is None:
            continue
        yield consume_step(names, ref, schema)
        if table.export.raw != "off":
            yield raw_export_step(names, RawWriter(config, ledger, ref, commit))
    for model in graph.models:
        yield model_step(names, graph, model)
        if model.is_published:
            yield export_step(names, model.relation)


# Columns ---------------------------------------------------------------------------------------


def _with_columns(paths: LakePaths, due: FinishedCycle) -> FinishedCycle:
    """The same, with the columns that the published file has of each model."""
    wanted = {part.step.job.partition(".")[2] for part in due.parts if not part.problem}
    columns = _columns(paths, wanted)
    parts = [replace(part, step=_described(part.step, columns)) for part in due.parts]
    return FinishedCycle(due.cycle, parts)


def _columns(paths: LakePaths, relations: Iterable[str]) -> dict[str, Columns]:
    found: dict[str, Columns] = {}
    if not paths.lake_db.exists():
        return found
    with opened(paths.lake_db, read_only=True) as published:
        views = published.execute("SELECT schema_name || '.' || view_name FROM duckdb_views()")
        there = {name for (name,) in views.fetchall()}
        for relation in sorted(there & set(relations)):
            described = published.execute(f"DESCRIBE {quoted_relation(relation)}").fetchall()
            found[relation] = tuple((str(row[0]), str(row[1])) for row in described)
    return found


def _described(step: Step, columns: Mapping[str, Columns]) -> Step:
    kind, _, relation = step.job.partition(".")
    known = columns.get(relation)
    if known is None:
        return step
    if kind == "export":
        return copying(step, known)
    return replace(step, outputs=having(step.outputs, known))
