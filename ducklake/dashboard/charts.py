"""Geometry of the charts: numbers in, coordinates out. The templates draw them as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 720.0, 180.0
MARK = 14.0
LEAST_STACKS = 20
"""Room above the bars of a `StackChart` for a mark."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar, in the units of its chart."""

    x: float
    y: float
    width: float
    height: float
    label: str
    value: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart.

    Attributes:
        width: Of its view box.
        height: Of its view box.
        top: The highest value, as text.
        first: Label of the first value.
        last: Label of the last one.
        bars: The bars, from left to right; empty for a line.
        line: The points of a polyline; empty for bars.
        other: The points of a second one, to compare with.
    """

    width: float
    height: float
    top: str
    first: str
    last: str
    bars: tuple[Bar, ...] = ()
    line: str = ""
    other: str = ""


def bars(
    values: Sequence[float],
    labels: Sequence[str],
    texts: Sequence[str],
    height: float = HEIGHT,
) -> Chart:
    """A bar for each value, none of which is below zero."""
    top = max(values, default=0.0) or 1.0
    step = WIDTH / max(1, len(values))
    gap = min(2.0, step * 0.25)
    drawn = tuple(
        Bar(
            round(at * step, 2),
            round(height - height * value / top, 2),
            round(step - gap, 2),
            round(max(height * value / top, 1.0 if value else 0.0), 2),
            labels[at],
            texts[at],
        )
        for at, value in enumerate(values)
    )
    highest = texts[max(range(len(values)), key=lambda at: values[at])] if values else ""
    return Chart(WIDTH, height, highest, _at(labels, 0), _at(labels, -1), drawn)


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a bar of several, such as a step of a cycle."""

    name: str
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Stack:
    """A bar of several parts, the first at the bottom.

    Attributes:
        x: Of its left edge.
        width: Of the bar.
        top: Of its upper edge.
        title: What it is, in words.
        segments: Its parts.
    """

    x: float
    width: float
    top: float
    title: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class StackChart:
    """Bars of several parts.

    Attributes:
        top: The highest sum.
        names: Of the parts, in their order.
        stacks: From left to right.
    """

    width: float
    height: float
    top: float
    names: tuple[str, ...]
    stacks: tuple[Stack, ...]


def stacks(
    values: Sequence[Mapping[str, float]], titles: Sequence[str], height: float = HEIGHT
) -> StackChart:
    """A bar of parts for each value; names keep the order in which they first occur."""
    names = tuple(dict.fromkeys(name for value in values for name in value))
    most = max((sum(value.values()) for value in values), default=0.0) or 1.0
    step = WIDTH / max(LEAST_STACKS, len(values))
    drawn = []
    for at, value in enumerate(values):
        y, segments = height, []
        for name in names:
            size = round((height - MARK) * value.get(name, 0.0) / most, 2)
            y = round(y - size, 2)
            segments.append(Segment(name, y, size))
        width = round(step - min(2.0, step * 0.25), 2)
        drawn.append(Stack(round(at * step, 2), width, y, titles[at], tuple(segments)))
    return StackChart(WIDTH, height, most, names, tuple(drawn))


def lines(
    values: Sequence[float | None],
    other: Sequence[float | None],
    labels: Sequence[str],
    top: str,
    height: float = HEIGHT,
) -> Chart:
    """A line, and another one behind it; None ends a line."""
    known = [value for value in (*values, *other) if value is not None]
    highest = max(known, default=0.0) or 1.0
    return Chart(
        WIDTH,
        height,
        top,
        _at(labels, 0),
        _at(labels, -1),
        line=_points(values, highest, height),
        other=_points(other, highest, height),
    )


def _points(values: Sequence[float | None], top: float, height: float) -> str:
    step = WIDTH / max(1, len(values) - 1)
    return " ".join(
        f"{at * step:.1f},{height - (height - 4) * value / top - 2:.1f}"
        for at, value in enumerate(values)
        if value is not None
    )


def _at(labels: Sequence[str], index: int) -> str:
    return labels[index] if labels else ""
