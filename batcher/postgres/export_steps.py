"""What is copied to PostgreSQL column by column, as OpenLineage tells it."""

from __future__ import annotations

from dataclasses import replace

from batcher.catalog import raw_columns
from batcher.postgres.raw_writer import RawWriter
from batcher.postgres.types import postgres_type
from lake.identifiers import postgres_columns
from lake.openlineage.datasets import Columns, Dataset, DatasetNames
from lake.openlineage.events import Step


def raw_export_step(names: DatasetNames, writer: RawWriter) -> Step:
    """A raw table's way to PostgreSQL."""
    columns = raw_columns(writer.config, writer.ledger, writer.ref, writer.commit)
    step = Step(
        f"export.{writer.relation}",
        (names.raw(writer.ref),),
        (names.postgres(writer.relation),),
    )
    return copying(step, columns)


def copying(step: Step, columns: Columns) -> Step:
    """A step that copies each column of its input to PostgreSQL."""
    targets = postgres_columns(name for name, _ in columns)
    there = tuple((targets[name], postgres_type(type_)) for name, type_ in columns)
    return replace(
        step,
        inputs=having(step.inputs, columns),
        outputs=having(step.outputs, there),
        copied={target: name for name, target in targets.items()},
    )


def having(datasets: tuple[Dataset, ...], columns: Columns) -> tuple[Dataset, ...]:
    """The only dataset, with its columns."""
    [only] = datasets
    return (replace(only, columns=columns),)
