"""Geometry of the charts: numbers in, coordinates out. The templates draw them as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 720.0, 180.0


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
