"""The picture of everything that flows: speed, lag, snapshots with ETA; idle told from stalled."""

from __future__ import annotations

from pathlib import Path

import pytest

from ducklake.dashboard.picture import picture
from ducklake.monitoring.flow import HopFlow, LagSample, TableFlow
from ducklake.monitoring.observation import Observation
from ducklake.monitoring.pipeline import Pipeline, SnapshotClock, pipeline
from ducklake.supervision.condition import Condition, RoleView
from ducklake.supervision.kafka_ends import TopicEnds
from lake.config import Config, load_config
from lake.lags import HOPS
from lake.processes.heartbeat import RETRYING, RUNNING, Part
from producers.mysql.progress import BinlogClock

SETTINGS = """\
name: page
services: {kafka: {bootstrap_servers: "127.0.0.1:9"}, postgres: {host: 127.0.0.1}}
sources:
  shop: {type: plain, tables: {orders: {}, stock: {}}}
  files: {type: plain, tables: {targets: {}}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "ducklake.yml").write_text(SETTINGS)
    return load_config(tmp_path / "ducklake.yml")


def flow(
    table: str, state: str = "idle", rows: int = 0, stalled: str = "", lag: int = 0
) -> TableFlow:
    minutes = (0,) * 54 + (rows,) * 5 + (9_999,)  # the minute that is not over does not count
    hops = tuple(
        HopFlow(
            hop,
            "stalled" if hop == stalled else "current",
            90.0 if hop == stalled else 0.0,
            None,
            None,
            "",
        )
        for hop in HOPS
    )
    samples = (LagSample(100.0, lag, 5.0), LagSample(105.0, 0, 0.0))
    return TableFlow(table, table.split(".")[0], state, 10, minutes, lag, hops, samples)


def whole(
    config: Config, *flows: TableFlow, part: Part | None = None, ends: dict[str, int] | None = None
) -> Pipeline:
    parts = {"shop": part} if part is not None else {}
    role = RoleView("produce", "healthy", 1, 0.0, 0, "", "", parts)
    known = {topic: TopicEnds({0: end}, {0: end}) for topic, end in (ends or {}).items()}
    seen = Observation(200.0, Condition((role,)), ends=known)
    return pipeline(config, seen, flows, SnapshotClock())


def test_idle_is_told_from_stalled_at_the_hop_where_it_stands(config: Config) -> None:
    found = whole(
        config,
        flow("shop.orders", "stalled", 60, "raw", 7),
        flow("shop.stock"),
        flow("files.targets"),
    )
    shop, files = found.sources
    assert (shop.state, files.state) == ("stalled", "idle")
    assert (shop.rows_per_s, found.rows_per_s) == (1.0, 1.0)
    states = {hop.hop: hop.state for hop in found.hops}
    assert states == {**dict.fromkeys(HOPS, "current"), "raw": "stalled"}
    raw = next(hop for hop in found.hops if hop.hop == "raw")
    assert (raw.lag_rows, raw.lag_s, raw.troubled) == (7, 90.0, ("shop.orders",))
    assert found.lag == (LagSample(100.0, 7, 5.0), LagSample(105.0, 0, 0.0))


def test_a_source_that_does_not_run_says_so_whatever_its_tables_are(config: Config) -> None:
    broken = Part("source", RETRYING, reason="MySQL does not answer.")
    shop = whole(config, flow("shop.orders"), part=broken).sources[0]
    assert (shop.state, shop.reason) == ("retrying", "MySQL does not answer.")


def test_the_picture_marks_what_stands_and_what_moves(config: Config) -> None:
    drawn = picture(
        whole(config, flow("shop.orders", "stalled", 60, "staging"), flow("files.targets"))
    )
    assert [box.colour for box in drawn.boxes] == [
        *("critical", "good"),
        *("good", "good", "critical", "good", "good"),
    ]
    stands = [line.stands for line in drawn.lines]
    assert stands == [False, False, False, True, False, False]
    assert [line.moves for line in drawn.lines] == [True, False, True, True, True, True]
    assert all(box.x >= 0 and box.x + 160 <= drawn.width for box in drawn.boxes)
    assert all(box.y >= 0 and box.y + 78 <= drawn.height for box in drawn.boxes)


def test_seconds_behind_the_binlog_and_tables_left_are_those_of_the_source(config: Config) -> None:
    streaming = Part("source", RUNNING, progress={"binlog_behind_s": 2.5})
    assert whole(config, flow("shop.orders"), part=streaming).sources[0].binlog_behind_s == 2.5
    reading = Part("source", RUNNING, progress={"snapshot": {"orders": 1000, "stock": 10}})
    ends = {"shop.orders": 400, "shop.stock": 10}
    shop = whole(config, flow("shop.orders"), part=reading, ends=ends).sources[0]
    assert shop.binlog_behind_s is None and shop.snapshot is not None
    assert (shop.snapshot.left, shop.snapshot.rows_left) == (("orders",), 600)
    assert shop.snapshot.eta_s is None, "the first look knows no speed"


def test_the_eta_of_a_snapshot_follows_from_its_speed() -> None:
    clock, wanted = SnapshotClock(), {"orders": 1000}
    clock.look("shop", wanted, {"orders": 0}, 0.0)
    assert clock.look("shop", wanted, {"orders": 250}, 10.0).eta_s == 30.0
    done = clock.look("shop", wanted, {"orders": 1200}, 20.0)
    assert (done.left, done.rows_left, done.eta_s) == ((), 0, 0.0)
    clock.forget("shop")
    assert clock.look("shop", wanted, {"orders": 500}, 30.0).eta_s is None


def test_the_lag_of_the_binlog_is_that_of_the_oldest_change_that_waits() -> None:
    clock = BinlogClock()
    assert clock.behind(("b.01", 10), ("b.01", 10), 0.0) == 0.0
    assert clock.behind(("b.01", 10), ("b.01", 20), 3600.0) == 0.0, "idle for an hour is no lag"
    assert clock.behind(("b.01", 10), ("b.01", 30), 3605.0) == 5.0
    assert clock.behind(("b.01", 20), ("b.02", 4), 3607.0) == 2.0, "one of them was read"
    assert clock.behind(("b.02", 4), ("b.02", 4), 3608.0) == 0.0
