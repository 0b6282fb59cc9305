"""All stories with chance, again and again for long: `make soak MINUTES=60`."""

from __future__ import annotations

import os
import time

import pytest

from tests.crash.conftest import Broker, LakeMaker
from tests.crash.oracle import LakeUnderTest
from tests.crash.scenarios import broker_kills, join_and_leave, random_kills, replay_kills

pytestmark = pytest.mark.chance
MINUTES = float(os.environ.get("DUCKLAKE_SOAK_MINUTES", "10"))
KILLS = int(os.environ.get("DUCKLAKE_KILLS", "200"))


@pytest.mark.timeout(MINUTES * 60 + 3600)
def test_soak(make_lake: LakeMaker, broker: Broker) -> None:
    deadline = time.monotonic() + MINUTES * 60
    rounds = 0
    while time.monotonic() < deadline or rounds == 0:
        random_kills(_lake(make_lake), KILLS)
        replay_kills(_lake(make_lake), KILLS // 2)
        replay_kills(_lake(make_lake), KILLS // 2, lose_the_ledger=True)
        broker_kills(_lake(make_lake), broker, max(1, KILLS // 20))
        join_and_leave(_lake(make_lake), KILLS / 4)
        rounds += 1
    print(f"{rounds} rounds of {KILLS} kills")


def _lake(make: LakeMaker) -> LakeUnderTest:
    return make(consumer={"seal_max_age_seconds": 0.5}, merge_files=8, partitions=3)
