"""OpenLineage's events: what is told of a run, without contents of rows and without secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lake.openlineage.datasets import Dataset

PRODUCER = "urn:ducklake-stream"
START, RUNNING, COMPLETE, FAIL = "START", "RUNNING", "COMPLETE", "FAIL"
STREAMING, BATCH = "STREAMING", "BATCH"


@dataclass(frozen=True, slots=True)
class Step:
    """A job, and between which datasets it stands.

    Attributes:
        job: `consume.mysql.orders`.
        inputs: What it reads.
        outputs: What it writes.
        processing: `STREAMING` or `BATCH`.
        copied: Column of the only output to that of the only input of which it is a copy.
    """

    job: str
    inputs: tuple[Dataset, ...] = ()
    outputs: tuple[Dataset, ...] = ()
    processing: str = STREAMING
    copied: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Told:
    """What is told of a job.

    Attributes:
        step: The job.
        state: `START`, `RUNNING`, `COMPLETE` or `FAIL`; empty where it is no run, but says that
            there is such a job.
        run: The run's id, a UUID.
        at: When, in seconds of the epoch.
        parent: (job, run) of the cycle within which it runs.
        rows: How many it has written so far.
        size: How many bytes.
        problem: Why it failed: no contents of rows.
    """

    step: Step
    state: str = ""
    run: str = ""
    at: float = 0.0
    parent: tuple[str, str] | None = None
    rows: int | None = None
    size: int | None = None
    problem: str = field(default="", repr=False)


def run_id() -> str:
    """A new run's id."""
    from openlineage.client.uuid import generate_new_uuid

    return str(generate_new_uuid())


def event_of(told: Told, namespace: str) -> Any:
    """The event as OpenLineage's client takes it.

    Args:
        told: What is told.
        namespace: Of the jobs.
    """
    from openlineage.client.event_v2 import Job, JobEvent, Run, RunEvent, RunState
    from openlineage.client.facet_v2 import job_type_job

    step = told.step
    kind = "JOB" if step.processing == STREAMING else "MODEL" if step.inputs else "CYCLE"
    about = job_type_job.JobTypeJobFacet(step.processing, "DUCKLAKE", kind, producer=PRODUCER)
    job = Job(namespace, step.job, {"jobType": about})
    moment = datetime.fromtimestamp(told.at, UTC).isoformat(timespec="milliseconds")
    inputs = [_input(dataset) for dataset in step.inputs]
    outputs = [_output(dataset, told) for dataset in step.outputs]
    if not told.state:
        return JobEvent(
            eventTime=moment, producer=PRODUCER, job=job, inputs=inputs, outputs=outputs
        )
    return RunEvent(
        eventTime=moment,
        producer=PRODUCER,
        eventType=RunState(told.state),
        run=Run(told.run, _run_facets(told, namespace)),
        job=job,
        inputs=inputs,
        outputs=outputs,
    )


def _run_facets(told: Told, namespace: str) -> dict[str, Any]:
    from openlineage.client.facet_v2 import error_message_run, parent_run, processing_engine_run

    engine = processing_engine_run.ProcessingEngineRunFacet(
        _version(), "DuckLake Stream", producer=PRODUCER
    )
    facets: dict[str, Any] = {"processing_engine": engine}
    if told.parent is not None:
        job, run = told.parent
        facets["parent"] = parent_run.ParentRunFacet(
            parent_run.Run(run),
            parent_run.Job(namespace, job),
            parent_run.Root(parent_run.RootRun(run), parent_run.RootJob(namespace, job)),
            producer=PRODUCER,
        )
    if told.state == FAIL:
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(
            told.problem, "Python", producer=PRODUCER
        )
    return facets


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("ducklake-stream")
    except PackageNotFoundError:  # a container has no installed package
        return "unknown"


def _input(dataset: Dataset) -> Any:
    from openlineage.client.event_v2 import InputDataset

    return InputDataset(dataset.namespace, dataset.name, facets=_facets(dataset))


def _output(dataset: Dataset, told: Told) -> Any:
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import output_statistics_output_dataset as statistics

    facets = _facets(dataset)
    if told.step.copied and dataset.columns:
        facets["columnLineage"] = _column_lineage(told.step)
    written: dict[str, Any] = {}
    if told.rows is not None and told.state != START:
        written["outputStatistics"] = statistics.OutputStatisticsOutputDatasetFacet(
            told.rows, told.size, producer=PRODUCER
        )
    return OutputDataset(dataset.namespace, dataset.name, written, facets=facets)


def _facets(dataset: Dataset) -> dict[str, Any]:
    from openlineage.client.facet_v2 import schema_dataset, symlinks_dataset

    facets: dict[str, Any] = {}
    if dataset.columns:
        fields = [
            schema_dataset.SchemaDatasetFacetFields(name, type_ or None)
            for name, type_ in dataset.columns
        ]
        facets["schema"] = schema_dataset.SchemaDatasetFacet(fields, producer=PRODUCER)
    if dataset.alias is not None:
        known = [symlinks_dataset.Identifier(*dataset.alias, "TABLE")]
        facets["symlinks"] = symlinks_dataset.SymlinksDatasetFacet(known, producer=PRODUCER)
    return facets


def _column_lineage(step: Step) -> Any:
    """Each column of a copy, and where it comes from."""
    from openlineage.client.facet_v2 import column_lineage_dataset as lineage

    [source] = step.inputs
    same = lineage.Transformation("DIRECT", "IDENTITY")
    fields = {
        target: lineage.Fields([lineage.InputField(source.namespace, source.name, name, [same])])
        for target, name in step.copied.items()
    }
    return lineage.ColumnLineageDatasetFacet(fields, producer=PRODUCER)
