"""Kills at random moments under load, with readers that look all the while."""

from __future__ import annotations

import os

import pytest

from tests.crash.conftest import Broker, LakeMaker
from tests.crash.loader import Kind
from tests.crash.scenarios import broker_kills, join_and_leave, random_kills, replay_kills

pytestmark = pytest.mark.chance
KILLS = int(os.environ.get("DUCKLAKE_KILLS", "20"))
REPLAYED: dict[str, Kind] = {"orders": "plain", "customers": "cdc"}


def test_workers_and_compactor_killed_at_random_moments(make_lake: LakeMaker) -> None:
    lake = make_lake(consumer={"seal_max_age_seconds": 0.5}, merge_files=8, partitions=3)
    random_kills(lake, KILLS)


def test_rebuilds_and_replays_killed_at_random_moments(make_lake: LakeMaker) -> None:
    replay_kills(
        make_lake(REPLAYED, consumer={"seal_max_age_seconds": 0.5}, merge_files=8), KILLS // 2
    )


def test_the_ledger_lost_between_random_kills(make_lake: LakeMaker) -> None:
    lake = make_lake(REPLAYED, consumer={"seal_max_age_seconds": 0.5}, merge_files=8)
    replay_kills(lake, KILLS // 4, lose_the_ledger=True)


def test_broker_killed_at_random_moments(make_lake: LakeMaker, broker: Broker) -> None:
    lake = make_lake(consumer={"seal_max_age_seconds": 0.5}, merge_files=8)
    broker_kills(lake, broker, max(1, KILLS // 10))


def test_three_workers_joining_and_leaving_every_second(make_lake: LakeMaker) -> None:
    lake = make_lake(consumer={"seal_max_age_seconds": 0.5}, partitions=3)
    join_and_leave(lake, KILLS)
