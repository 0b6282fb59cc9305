"""A light: how well something is, in one word, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Colour = Literal["good", "unknown", "warning", "critical"]
GOOD: Colour = "good"
UNKNOWN: Colour = "unknown"
WARNING: Colour = "warning"
CRITICAL: Colour = "critical"
COLOURS: tuple[Colour, ...] = (GOOD, UNKNOWN, WARNING, CRITICAL)
"""From best to worst."""


@dataclass(frozen=True, slots=True)
class Light:
    """How well something is.

    Attributes:
        colour: `good`, `unknown` (nobody can say), `warning` or `critical`.
        reason: Why it is not good; of a good one, what was looked at.
        remedy: The command, or the step, that goes on; empty where there is nothing to do.
    """

    colour: Colour = GOOD
    reason: str = ""
    remedy: str = ""


def worst(lights: Iterable[Light]) -> Light:
    """The worst of some lights; the first of several that are equally bad."""
    return max(lights, key=lambda light: COLOURS.index(light.colour), default=Light())
