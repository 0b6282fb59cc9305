"""The lake's metrics and those of every living role, as one text in Prometheus' format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from ducklake.metrics.of_lake import LAKE
from ducklake.metrics.of_tables import TABLES
from ducklake.monitoring.snapshot import Snapshot
from lake.config import Config
from lake.processes import lock
from lake.processes.instruments import SUFFIX
from lake.storage.paths import LakePaths

DEFINITIONS = (*LAKE, *TABLES)
"""The metrics of the lake; those of roles are in `lake.processes.instruments`."""


class LakeCollector:
    """Hands the newest snapshot to Prometheus' client.

    Args:
        config: The configuration.
        newest: Gives the newest snapshot; None: there is none yet.
    """

    def __init__(self, config: Config, newest: Callable[[], Snapshot | None]) -> None:
        self._config = config
        self._newest = newest
        self._run = LakePaths(config.data_dir).run

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        found = self._newest()
        if found is not None:
            for definition in DEFINITIONS:
                yield definition.family(self._config, found)
        yield from _of_roles(self._run)


def registry(config: Config, newest: Callable[[], Snapshot | None]) -> CollectorRegistry:
    """What an HTTP server of Prometheus' client serves."""
    made = CollectorRegistry()
    made.register(LakeCollector(config, newest))
    return made


def text(config: Config, found: Snapshot) -> str:
    """The metrics of one snapshot."""
    return generate_latest(registry(config, lambda: found)).decode()


def _of_roles(folder: Path) -> Iterator[Metric]:
    """What the living roles count, each with the label `role`.

    A killed one leaves its file, with values that nobody keeps up to date: they are not told.
    """
    merged: dict[str, Metric] = {}
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        if lock.holder(path.with_suffix(".lock")) is None:
            continue
        for family in _families(path):
            known = merged.setdefault(
                family.name, Metric(family.name, family.documentation, family.type)
            )
            for sample in family.samples:
                labels = {**sample.labels, "role": path.stem}
                known.add_sample(sample.name, labels, sample.value)
    yield from merged.values()


def _families(path: Path) -> list[Metric]:
    try:
        return list(text_string_to_metric_families(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return []  # gone, or cut by a power failure: written anew in a moment
