"""A process is killed at every named point, once early and once later, and nothing is lost."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.crash.conftest import Lakes
from tests.crash.oracle import LakeUnderTest, until

ROOT = Path(__file__).resolve().parents[2]
POINT = re.compile(r'failpoint\(\s*"([a-z_.]+)"\s*\)')
PACKAGES = ("consumers", "ducklake")
LATER = 4
# Where a point is hit by one of the two alone; a name that nobody lists is tried with both.
ONLY = {
    "commit": ("consume",),
    "seal": ("compact",),
    "recover": ("consume",),
}


def points() -> list[str]:
    """All names in the source, so that a new one is tested without being told."""
    found: set[str] = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            found |= set(POINT.findall(path.read_text()))
    return sorted(found)


def cases() -> list[tuple[str, str, int]]:
    return [
        (name, victim, hit)
        for name in points()
        for victim in ONLY.get(name.partition(".")[0], ("consume", "compact"))
        for hit in ((1,) if name.startswith(("session.", "recover.")) else (1, LATER))
    ]


@pytest.mark.parametrize(("name", "victim", "hit"), cases())
def test_a_kill_at_any_step_loses_and_repeats_nothing(
    name: str, victim: str, hit: int, make_lake: Lakes
) -> None:
    lake = make_lake(consumer={"seal_seconds": 0.2}, merge_files=4)
    if name.startswith("recover."):
        _leave_an_orphan(lake)
    if victim == "compact":
        lake.start("consume")
    died = lake.start(victim, failpoint=f"{name}:{hit}")
    _load_until_it_is_killed(lake, died, f"{victim} at {name}:{hit}")
    left = lake.left_behind()
    for command in ("consume", "compact"):
        if command == victim or victim == "consume":
            lake.start(command)
    lake.loader.burst()
    lake.await_caught_up()
    lake.stop()
    lake.check()
    lake.check_nothing_was_lost_on_the_way(left)


def _load_until_it_is_killed(lake: LakeUnderTest, died: object, what: str) -> None:
    def dead() -> bool:
        code = died.exit_code()  # type: ignore[attr-defined]
        if code is None:
            lake.loader.burst()
        assert code in (None, -9), f"{what} ended with {code}\n{lake.show_logs()}"
        return code is not None

    until(dead, f"the kill of {what}")


def _leave_an_orphan(lake: LakeUnderTest) -> None:
    died = lake.start("consume", failpoint="commit.before_ledger:2")
    _load_until_it_is_killed(lake, died, "the writer of an orphan")


def test_the_points_are_found() -> None:
    assert {"commit.before_ledger", "seal.before_flip"} <= set(points())
    assert os.environ.get("DUCKLAKE_FAILPOINT") is None
