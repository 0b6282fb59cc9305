"""A process is killed at every named point, once early and once later, and nothing is lost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.crash.conftest import LakeMaker
from tests.crash.oracle import LakeUnderTest, Worker, until
from tests.crash.readers import LedgerReader, PublicReader

ROOT = Path(__file__).resolve().parents[2]
POINT = re.compile(r'failpoint\(\s*"([a-z_.]+)"\s*\)')
PACKAGES = ("consumers", "lake", "ducklake")
LATER = 4
# Where a point is hit by one of the two alone; a name that nobody lists is tried with both.
ONLY = {
    "commit": ("consume",),
    "seal": ("compact",),
    "join": ("compact",),
    "recover": ("consume",),
    "days": (),  # explicit commands: test_days.py and test_replay.py
    "replay": (),
    "restore": (),  # test_lost_ledger.py
    "backup": (),
    "redrive": (),  # test_dead_letters.py
    "settle": (),  # test_one_bad_among_good.py
    "catalog": (),  # tests/unit/test_iceberg.py
    "alerts": (),  # tests/unit/test_alerts.py
    "live": (),  # tests/integration/test_live.py
}
# Which hits; of what every write does, the first ones belong to the start of a process.
HITS = {
    "commit": (1, LATER),
    "seal": (1, LATER),
    "join": (1,),
    "recover": (1,),
    "session": (1,),
    "folder": (1, LATER),
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
        for hit in HITS.get(name.partition(".")[0], (LATER,))
    ]


class Shared:
    """One lake for each victim, for all its deaths; a new one after a failure."""

    def __init__(self, make: LakeMaker) -> None:
        self._make = make
        self._lakes: dict[str, LakeUnderTest] = {}

    def take(self, victim: str, fresh: bool) -> LakeUnderTest:
        lake = None if fresh else self._lakes.pop(victim, None)
        return lake or self._make(consumer={"seal_max_age_seconds": 0.2}, merge_files=4)

    def give_back(self, victim: str, lake: LakeUnderTest) -> None:
        self._lakes[victim] = lake

    def all(self) -> dict[str, LakeUnderTest]:
        return self._lakes


@pytest.fixture(scope="module")
def shared(make_shared_lake: LakeMaker) -> Shared:
    return Shared(make_shared_lake)


@pytest.mark.parametrize(("name", "victim", "hit"), cases())
def test_a_kill_at_any_step_loses_and_repeats_nothing(
    name: str, victim: str, hit: int, shared: Shared
) -> None:
    lake = shared.take(victim, fresh=name.startswith("folder."))
    with PublicReader(lake), LedgerReader(lake):
        left = _killed_and_back(lake, name, victim, hit)
    lake.stop()
    lake.check_in_between()
    lake.check_nothing_was_deleted(left)
    shared.give_back(victim, lake)


def _killed_and_back(lake: LakeUnderTest, name: str, victim: str, hit: int) -> dict[str, str]:
    """The victim dies at the point, and a new one catches up; gives what was left behind."""
    other = "compact" if victim == "consume" else "consume"
    if name.startswith("recover."):
        _leave_an_orphan(lake)  # for the victim alone
    else:
        lake.start(other)
    died = lake.start(victim, failpoint=f"{name}:{hit}")
    _load_until_it_is_killed(lake, died, f"{victim} at {name}:{hit}")
    left = lake.left_behind()
    lake.start(victim)
    lake.loader.burst()
    lake.await_caught_up()
    return left


@pytest.mark.parametrize("victim", ["consume", "compact"])
def test_after_all_deaths_of_a_process_its_lake_is_exact(victim: str, shared: Shared) -> None:
    lake = shared.take(victim, fresh=False)
    if not lake.workers:
        pytest.skip("none of its deaths was chosen")
    lake.check()


def _load_until_it_is_killed(lake: LakeUnderTest, died: Worker, what: str) -> None:
    def dead() -> bool:
        code = died.exit_code()
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
