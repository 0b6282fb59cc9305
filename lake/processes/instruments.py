"""What a process counts of its own work: its metrics, apart from what the lake itself knows.

A counter begins at 0 with its process, as Prometheus expects. A role's values are in a small text
file beside its heartbeat, so that no role needs a port, and a full disk costs nothing but a value.
"""

from __future__ import annotations

import threading
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from lake.storage.operations import remove_file, replace_unsynced

disable_created_metrics()  # type: ignore[no-untyped-call]
SUFFIX = ".prom"
WRITE_SECONDS = 2.0
_SHORT = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LONG = (0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PRODUCED = Counter(
    "ducklake_produced_records",
    "Records that a producer committed to Kafka, with their cursor, since it was started.",
    ["table"],
    registry=REGISTRY,
)
FLUSH_SECONDS = Histogram(
    "ducklake_flush_seconds",
    "How long the commit of a flush took: the hot file, and the ledger's transaction.",
    buckets=_SHORT,
    registry=REGISTRY,
)
FLUSHED = Counter(
    "ducklake_flushed_rows",
    "Rows that a consumer committed to raw since it was started.",
    ["table"],
    registry=REGISTRY,
)
FLUSHED_BYTES = Counter(
    "ducklake_flushed_bytes",
    "Size of the hot files that a consumer committed since it was started.",
    ["table"],
    registry=REGISTRY,
)
SEAL_SECONDS = Histogram(
    "ducklake_seal_seconds",
    "How long it took to seal hot files of a table into public ones.",
    buckets=_LONG,
    registry=REGISTRY,
)
SEALED_FILES = Counter(
    "ducklake_sealed_files",
    "Public files that the compactor made since it was started.",
    ["table"],
    registry=REGISTRY,
)
CYCLE_SECONDS = Histogram(
    "ducklake_cycle_duration_seconds",
    "How long the batch's cycles took.",
    buckets=_LONG,
    registry=REGISTRY,
)
EXPORT_SECONDS = Histogram(
    "ducklake_export_duration_seconds",
    "How long exports to PostgreSQL took, by what was exported: models, or raw.",
    ["of"],
    buckets=_SHORT,
    registry=REGISTRY,
)
SOURCE_FAILURES = Counter(
    "ducklake_source_failures",
    "Polls of a source that failed since its producer was started; each is tried again.",
    ["source"],
    registry=REGISTRY,
)


class InstrumentsFile:
    """Writes this process's values beside its heartbeat, until it is closed.

    Args:
        folder: `data/run`.
        role: The name of the role.
    """

    def __init__(self, folder: Path, role: str) -> None:
        self._path = folder / f"{role}{SUFFIX}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._write()
        self._thread.start()

    def close(self) -> None:
        """Write no more; a process that has ended has no values."""
        self._stop.set()
        self._thread.join()
        remove_file(self._path)

    def _run(self) -> None:
        while not self._stop.wait(WRITE_SECONDS):
            self._write()

    def _write(self) -> None:
        try:
            replace_unsynced(self._path, generate_latest(REGISTRY).decode())
        except OSError:
            return  # a full disk: the next one tells the same, and more
