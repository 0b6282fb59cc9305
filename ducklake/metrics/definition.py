"""A metric: what it is called, what it means, and how a snapshot of the lake fills it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from ducklake.monitoring.snapshot import Snapshot
from lake.config import Config

Sample = tuple[tuple[str, ...], float]
"""Values of the labels, and the value."""
Fill = Callable[[Config, Snapshot], Iterable[Sample]]
LIGHTS = "0 good, 1 unknown, 2 warning, 3 critical; light is the worst of the three"


@dataclass(frozen=True, slots=True)
class Definition:
    """A metric.

    Attributes:
        name: As it is exported.
        kind: Its type.
        labels: Their names.
        help: What it means.
        fill: Its samples.
    """

    name: str
    kind: Literal["gauge", "counter"]
    labels: tuple[str, ...]
    help: str
    fill: Fill

    def family(self, config: Config, found: Snapshot) -> Metric:
        """Its samples as Prometheus' client takes them."""
        made: CounterMetricFamily | GaugeMetricFamily
        if self.kind == "counter":
            name = self.name.removesuffix("_total")
            made = CounterMetricFamily(name, self.help, labels=self.labels)
        else:
            made = GaugeMetricFamily(self.name, self.help, labels=self.labels)
        for values, value in self.fill(config, found):
            made.add_metric(values, value)
        return made
