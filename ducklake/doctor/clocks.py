"""Whether a service's clock is ours: freshness compares moments of both."""

from __future__ import annotations

import time

from ducklake.doctor.findings import NOTE, Finding, wrong

MOST_SECONDS = 5.0


def clock(subject: str, theirs: float, asked: float) -> Finding | None:
    """What is wrong with a clock; None where nothing is.

    Args:
        subject: Whose clock.
        theirs: What it said, in seconds of the epoch.
        asked: When it was asked, by ours.
    """
    # between asking and now; within that, nobody can know
    late, early = theirs - time.time(), theirs - asked
    skew = early if early < 0 else max(0.0, late)
    if abs(skew) <= MOST_SECONDS:
        return None
    direction = "ahead of" if skew > 0 else "behind"
    return wrong(
        "DL-105",
        subject,
        f"its clock is {abs(skew):.0f} s {direction} this machine's; freshness is wrong by as much",
        "On the machine that is wrong: `timedatectl set-ntp true`",
        NOTE,
    )
