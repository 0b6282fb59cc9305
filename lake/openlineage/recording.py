"""What the parts of the lake call as they move rows: as with metrics, nothing where nobody asks.

Nothing here raises, waits or touches the network: what a target of events does is its thread's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Concatenate, ParamSpec

import structlog

from lake.config import Config, TableRef
from lake.errors import ConfigError, DuckLakeError
from lake.installation import install_extra
from lake.openlineage.datasets import Dataset, DatasetNames
from lake.openlineage.events import Step, Told
from lake.openlineage.runs import CycleRuns, FinishedCycle, StreamRuns
from lake.openlineage.targets import Sender, targets
from lake.processes.backoff import Backoff
from lake.processes.heartbeat import SILENT, Heartbeat
from lake.storage.schema import Schema

log = structlog.get_logger()
Arguments = ParamSpec("Arguments")
Origin = Callable[[TableRef], Sequence[Dataset]]


class Recorder:
    """Tells what a process does.

    Args:
        config: The configuration, with a target.
        heartbeat: Told while a target takes nothing.
        pauses: Makes the pauses between two tries of a target.
    """

    def __init__(
        self,
        config: Config,
        heartbeat: Heartbeat = SILENT,
        pauses: Callable[[], Backoff | None] = lambda: None,
    ) -> None:
        lineage = config.settings.lineage
        _assert_installed()
        self.config = config
        self.names = DatasetNames(config, config.endpoints())
        self._senders = [
            Sender(target, lineage.namespace or config.settings.name, heartbeat, pauses())
            for target in targets(lineage, config.root, config.settings.logs)
        ]
        self.streams = StreamRuns(self._tell, lineage.seconds)
        self.cycles = CycleRuns(self._tell, lineage.seconds)
        self.has_failed = False

    def _tell(self, told: Told) -> None:
        for sender in self._senders:
            sender.put(told)

    def close(self) -> None:
        """End the runs, and send what waits as far as that works at once."""
        self.streams.end()
        for sender in self._senders:
            sender.close()


_recorder: Recorder | None = None


@contextmanager
def lineage_told(config: Config, heartbeat: Heartbeat = SILENT) -> Iterator[None]:
    """Tell what this process does, for the time of a block, where `lineage` names a target.

    Raises:
        ConfigError: The package that it needs is not installed.
        StackNotRunning: A service is `embedded` and the stack is not up.
    """
    global _recorder
    lineage = config.settings.lineage
    if _recorder is not None or (lineage.file is None and lineage.url is None):
        yield
        return
    recorder = _recorder = Recorder(config, heartbeat)
    try:
        yield
    finally:
        _recorder = None
        recorder.close()


def is_told() -> bool:
    """Whether anybody asks."""
    return _recorder is not None


def _never_in_the_way(
    tell: Callable[Concatenate[Recorder, Arguments], None],
) -> Callable[Arguments, None]:
    """Nothing where nobody asks; and whatever goes wrong stays here."""

    @functools.wraps(tell)
    def told(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        recorder = _recorder
        if recorder is None:
            return
        try:
            tell(recorder, *args, **kwargs)
        except Exception as error:  # rows go on, whatever it is
            if not recorder.has_failed:
                recorder.has_failed = True
                log.warning(
                    "lineage_not_told",
                    message="Lineage could not be told; rows are not affected. Logged once.",
                    reason=type(error).__name__,
                )

    return told


# Ingest ----------------------------------------------------------------------------------------


@_never_in_the_way
def produced(recorder: Recorder, ref: TableRef, origin: Origin, rows: int = 0) -> None:
    """A source was read to its end, or records of it reached Kafka.

    Args:
        recorder: Tells it.
        ref: The table.
        origin: Says what it is at its source.
        rows: Records that were sent.
    """
    step = Step(f"produce.{ref.topic}", tuple(origin(ref)), (recorder.names.topic(ref),))
    recorder.streams.moved(step, rows)


@_never_in_the_way
def consumed(
    recorder: Recorder, ref: TableRef, schema: Schema, rows: int = 0, size: int = 0
) -> None:
    """Records became raw rows.

    Args:
        recorder: Tells it.
        ref: The table.
        schema: Of the table.
        rows: How many.
        size: Bytes of their file.
    """
    recorder.streams.moved(consume_step(recorder.names, ref, schema), rows, size)


@_never_in_the_way
def exported_raw(recorder: Recorder, step: Callable[[DatasetNames], Step], rows: int) -> None:
    """Raw rows reached PostgreSQL."""
    recorder.streams.moved(step(recorder.names), rows)


@_never_in_the_way
def stopped(recorder: Recorder, job: str, error: Exception) -> None:
    """A job of ingest, or of the export of raw, has stopped, or is tried again."""
    recorder.streams.failed(recorder.streams.step(job), problem_of(error))


def consume_step(names: DatasetNames, ref: TableRef, schema: Schema) -> Step:
    """From a topic to raw files, whose own columns (`_offset`, …) come from no field."""
    fields = {c.name: c.field for c in schema.columns if not c.provenance}
    types = {c.field: c.type for c in schema.columns if not c.provenance}
    topic = names.topic(ref, tuple(types.items()))
    raw = names.raw(ref, schema.relation(names.config.kind(ref)))
    return Step(f"consume.{ref.topic}", (topic,), (raw,), copied=fields)


def problem_of(error: Exception) -> str:
    """What of an error is told to others: its text may quote a value, and stays here."""
    kind = type(error).__name__
    if not isinstance(error, DuckLakeError):
        kind = "UnexpectedError"
    return f"{kind}: `ducklake status` has the reason and the remedy."


# Cycles ----------------------------------------------------------------------------------------


@_never_in_the_way
def cycle_ended(
    recorder: Recorder,
    found: Callable[[DatasetNames], FinishedCycle],
    described: Callable[[DatasetNames], Iterable[Step]] = lambda names: (),
    with_columns: Callable[[FinishedCycle], FinishedCycle] = lambda due: due,
) -> None:
    """A cycle is over, well or not.

    Args:
        recorder: Tells it.
        found: What ran within it.
        described: All jobs that there are; asked for once.
        with_columns: Adds columns to the datasets of what is to be told.
    """
    due = recorder.cycles.due(found(recorder.names))
    if due is not None:
        recorder.cycles.tell(with_columns(due))
    if not recorder.cycles.is_described:
        recorder.cycles.describe(described(recorder.names))


def _assert_installed() -> None:
    try:
        import openlineage.client  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"The section `lineage` needs the Python package {error.name}.",
            f"Install it with `{install_extra('lineage')}`.",
        ) from None
