"""How long rows took from their source to a place: histograms, which can be added up."""

from __future__ import annotations

import math
from collections.abc import Mapping

HOPS = ("topic", "raw", "staging", "consume", "postgres")
"""Where rows arrive one after the other, behind the source's own commit."""
STEPS = 4
SHORTEST_SECONDS = 0.001

Histogram = Mapping[int, int]
"""Bucket to a number of rows."""


def bucket_sql(seconds: str) -> str:
    """The bucket of a number of seconds, in DuckDB's SQL; negative ones (clocks) are the shortest.

    Four buckets double the time: a quantile is right within 19 %.
    """
    return (
        f"greatest(0, floor({STEPS} * log2(greatest({seconds}, {SHORTEST_SECONDS})"
        f" / {SHORTEST_SECONDS})))::INTEGER"
    )


def upper_seconds(bucket: int) -> float:
    """The longest time of a bucket."""
    return float(SHORTEST_SECONDS * 2.0 ** ((bucket + 1) / STEPS))


def quantile(histogram: Histogram, share: float) -> float | None:
    """The seconds within which a share of the rows arrived; None where there were none."""
    wanted = math.ceil(sum(histogram.values()) * share)
    reached = 0
    for bucket in sorted(histogram):
        reached += histogram[bucket]
        if reached >= wanted:
            return round(upper_seconds(bucket), 3)
    return None
