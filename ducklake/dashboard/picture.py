"""Geometry of the picture of everything that flows: hops in, boxes and lines out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from ducklake.monitoring.pipeline import Pipeline, PipelineHop, SourceFlow

WIDTH = 1180.0
BOX_WIDTH, BOX_HEIGHT, GAP = 160.0, 78.0, 14.0
COLUMNS = 6
_COLOURS = {"stalled": "critical", "stopped": "critical", "unknown": "unknown"}
_FLOWS = {"idle": "good", "arriving": "good", "current": "good"}


@dataclass(frozen=True, slots=True)
class Box:
    """A source or a hop.

    Attributes:
        x: Of its left edge.
        y: Of its upper edge.
        colour: As of a light.
        source: What it shows, if it is a source.
        hop: What it shows, if it is a hop.
    """

    x: float
    y: float
    colour: str
    source: SourceFlow | None = None
    hop: PipelineHop | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """From a box to the next.

    Attributes:
        path: As SVG takes it.
        width: The wider, the more rows.
        moves: Whether rows came along it in the last minutes.
        stands: Whether something stands before its end.
    """

    path: str
    width: float
    moves: bool
    stands: bool


@dataclass(frozen=True, slots=True)
class Picture:
    """The whole."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]


def picture(whole: Pipeline) -> Picture:
    """Sources above each other on the left, then one hop after the other."""
    height = max(1, len(whole.sources)) * (BOX_HEIGHT + GAP) + GAP
    step = (WIDTH - BOX_WIDTH - 2 * GAP) / (COLUMNS - 1)
    middle = (height - BOX_HEIGHT) / 2
    sources = tuple(
        Box(GAP, GAP + at * (BOX_HEIGHT + GAP), _colour(one.state), source=one)
        for at, one in enumerate(whole.sources)
    )
    hops = tuple(
        Box(round(GAP + (at + 1) * step, 1), middle, _colour(hop.state), hop=hop)
        for at, hop in enumerate(whole.hops)
    )
    return Picture(WIDTH, height, sources + hops, tuple(_lines(whole, sources, hops)))


def _lines(whole: Pipeline, sources: tuple[Box, ...], hops: tuple[Box, ...]) -> Iterator[Line]:
    for box in sources:
        assert box.source is not None
        yield _line(box, hops[0], box.source.rows_per_s)
    for before, after in pairwise(hops):
        yield _line(before, after, whole.rows_per_s)


def _line(before: Box, after: Box, rate: float) -> Line:
    x1, y1 = before.x + BOX_WIDTH, before.y + BOX_HEIGHT / 2
    x2, y2 = after.x, after.y + BOX_HEIGHT / 2
    bend = (x1 + x2) / 2
    path = f"M{x1:.1f},{y1:.1f}C{bend:.1f},{y1:.1f} {bend:.1f},{y2:.1f} {x2:.1f},{y2:.1f}"
    width = 1.5 + min(7.0, 2.0 * math.log10(1 + rate))
    return Line(path, round(width, 1), rate > 0, after.colour == "critical")


def _colour(state: str) -> str:
    return _FLOWS.get(state) or _COLOURS.get(state, "warning")
