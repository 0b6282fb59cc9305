"""Freshness: how long rows take to each hop, and idle told apart from stalled (promise 11)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.freshness import FreshnessMeter
from batcher.waiting_rows import waiting_rows
from consumers.ingest.flush import Flush, commit_flush
from ducklake.cli.condition_text import freshness_lines
from ducklake.supervision.condition import Condition, Problem, RoleView
from ducklake.supervision.freshness import TableFreshness, look_at_freshness, with_freshness
from ducklake.supervision.kafka_ends import STALLED_SECONDS, TopicEnds
from lake.config import Config, TableRef, load_config
from lake.formats import RunSummary
from lake.lags import HOPS, STEPS, bucket_sql, quantile
from lake.ledger import Ledger
from lake.ledger.freshness import LAG_RUNS, Arrivals
from lake.records import OffsetRange
from lake.storage.json_files import replace_json
from lake.storage.paths import LakePaths
from lake.storage.schema import Schema, source_column
from lake.storage.session import Session

REF, ID = TableRef("shop", "orders"), "ab" * 16
SCHEMA = Schema((source_column("order_id", "BIGINT"),))
SETTINGS = "name: fresh\nsources: {shop: {type: plain, tables: {orders: {}}}}\n"
WIDTH = 2 ** (1 / STEPS)


@given(st.lists(st.floats(0.002, 1e6), min_size=1, max_size=60), st.sampled_from([0.5, 0.95]))
def test_a_quantile_of_counts_is_right_within_a_bucket(seconds: list[float], share: float) -> None:
    listed = ", ".join(f"({value!r}::DOUBLE)" for value in seconds)
    with duckdb.connect() as db:
        counts = db.execute(
            f"SELECT {bucket_sql('s')}, count(*) FROM (VALUES {listed}) t(s) GROUP BY 1"
        ).fetchall()
    found = quantile(dict(counts), share)
    exact = sorted(seconds)[max(0, -int(-len(seconds) * share // 1) - 1)]
    assert found is not None
    assert exact * 0.99 - 0.001 <= found <= exact * WIDTH * 1.01 + 0.001


@dataclass
class Lake:
    config: Config
    ledger: Ledger
    session: Session

    def flush(self, moments: list[tuple[float | None, float]]) -> int:
        """Rows by (seconds ago at the source, seconds ago in Kafka); gives the commit."""
        state = self.ledger.tables.open(REF.topic, ID, 1)
        first = state.positions.get(0, 0)
        now = datetime.now(UTC)
        count = len(moments)
        stamp = pa.timestamp("us", "UTC")

        def ago(seconds: float | None) -> datetime | None:
            return None if seconds is None else now - timedelta(seconds=seconds)

        rows = pa.table(
            {
                "order_id": list(range(first, first + count)),
                "_op": ["r"] * count,
                "_source_ts": pa.array([ago(s) for s, _ in moments], stamp),
                "_kafka_ts": pa.array([ago(k) for _, k in moments], stamp),
                "_topic": [REF.topic] * count,
                "_partition": pa.array([0] * count, pa.int32()),
                "_offset": pa.array(range(first, first + count), pa.int64()),
                "_topic_epoch": pa.array([0] * count, pa.int32()),
            }
        )
        span = OffsetRange(ID, 0, first, first + count - 1, count)
        flush = Flush(state, {0: state.positions.get(0)}, [span], rows, SCHEMA)
        commit_flush(self.ledger, self.session, REF, flush)
        return self.ledger.commits.last()

    def run(self, arrivals: Arrivals, commit: int, **more: object) -> None:
        summary = RunSummary(commit, 1, 1, 0, 0, **more)  # type: ignore[arg-type]
        self.ledger.runs.record(time.time(), 1.0, 0, summary, arrivals)

    def look(self, *roles: str, end: int = 0, before: int = 0, **given: object) -> TableFreshness:
        """The table's freshness while some roles run; `end`: of its topic."""
        views = tuple(RoleView(r, "healthy", 1, 0.0, 0, "", "", {}) for r in roles)
        condition = Condition(roles=views, problems=given.get("problems", ()))  # type: ignore[arg-type]
        ends = None if end < 0 else {REF.topic: TopicEnds({0: end}, {0: before})}
        [found] = look_at_freshness(self.config, condition, ends)
        return found


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    (tmp_path / "ducklake.yml").write_text(SETTINGS)
    config = load_config(tmp_path / "ducklake.yml")
    with Ledger(LakePaths(config.data_dir)) as ledger, Session(ledger.paths) as session:
        yield Lake(config, ledger, session)


ALL = ("produce", "consume", "batch")


def test_each_hop_counts_from_the_source_s_commit(lake: Lake) -> None:
    before = lake.flush([(500.0, 499.0)])
    meter = FreshnessMeter(lake.config, lake.ledger)
    lake.run(meter.measure(before, dict.fromkeys(HOPS[2:], time.time())), before)
    commit = lake.flush([(10.0, 8.0)] * 90 + [(100.0, 8.0)] * 10 + [(None, 8.0)])
    ends = {"staging": time.time() + 5, "consume": time.time() + 6, "postgres": time.time() + 30}
    found = meter.measure(commit, ends)
    p50 = {hop: quantile(found.lags[REF.topic, hop], 0.5) for hop in HOPS}
    p95 = {hop: quantile(found.lags[REF.topic, hop], 0.95) for hop in HOPS}
    for hop, seconds in (("topic", 2), ("raw", 10), ("staging", 15), ("postgres", 40)):
        assert p50[hop] == pytest.approx(seconds, rel=WIDTH - 1 + 0.05), hop
    assert p95["topic"] == pytest.approx(92, rel=WIDTH - 1 + 0.05)
    assert sum(found.lags[REF.topic, "raw"].values()) == 100  # what does not say when is left out
    assert {state.hop for state in found.hops} == set(HOPS)
    assert all(state.commit == commit for state in found.hops)


def test_a_hop_that_was_not_reached_is_counted_from_where_it_stood(lake: Lake) -> None:
    """PostgreSQL was away in a run: the next one counts the rows of both there."""
    one = lake.flush([(300.0, 299.0)] * 5)
    meter = FreshnessMeter(lake.config, lake.ledger)
    away = meter.measure(one, {"staging": time.time()})
    assert (REF.topic, "postgres") not in away.lags
    lake.run(away, one)
    two = lake.flush([(1.0, 0.5)] * 3)
    now = time.time()
    back = meter.measure(two, {"staging": now, "postgres": now})
    assert sum(back.lags[REF.topic, "postgres"].values()) == 8
    assert sum(back.lags[REF.topic, "staging"].values()) == 3


def test_what_is_kept_is_bounded(lake: Lake) -> None:
    arrivals = Arrivals({(REF.topic, hop): {n: 1 for n in range(9)} for hop in HOPS})
    commit = lake.flush([(1.0, 1.0)])
    db = lake.ledger._core.db
    db.execute("PRAGMA synchronous = OFF")
    for _ in range(LAG_RUNS + 50):
        lake.run(arrivals, commit)
    [(runs,)] = db.execute("SELECT count(DISTINCT run) FROM lags").fetchall()
    assert runs == LAG_RUNS


def test_a_table_to_which_nothing_new_comes_is_idle_not_stalled(lake: Lake) -> None:
    commit = lake.flush([(90_000.0, 90_000.0)])  # a day ago
    lake.run(Arrivals(), commit)
    lake.ledger.readers.state("batch", commit)
    found = lake.look(*ALL, end=1, before=1)
    assert found.state == "idle"
    assert {hop.now_s for hop in found.hops.values()} == {0.0}
    assert found.problem() is None


def test_what_waits_in_kafka_arrives_or_is_stalled(lake: Lake) -> None:
    commit = lake.flush([(1.0, 1.0)])
    lake.run(Arrivals(), commit)
    lake.ledger.readers.state("batch", commit)
    assert lake.look(*ALL, end=5, before=1).hops["raw"].state == "arriving"
    stalled = lake.look(*ALL, end=5, before=3)
    assert (stalled.hops["raw"].state, stalled.state) == ("stalled", "stalled")
    assert stalled.hops["raw"].now_s == STALLED_SECONDS
    condition = with_freshness(Condition(), [stalled])
    [problem] = condition.problems
    assert problem.subject == "table shop.orders" and "not in raw" in problem.reason
    assert not condition.healthy
    assert freshness_lines([stalled])[0].startswith("freshness: 1 stalled")


def test_without_kafka_or_its_role_nothing_is_called_current(lake: Lake) -> None:
    lake.flush([(1.0, 1.0)])
    assert lake.look(*ALL, end=-1).hops["raw"].state == "unknown"
    found = lake.look(end=5)
    assert {hop: found.hops[hop].state for hop in HOPS[1:]} == dict.fromkeys(HOPS[1:], "stopped")


def test_rows_that_no_cycle_takes_are_stalled_behind_raw(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = lake.flush([(1.0, 1.0)])
    lake.run(Arrivals(), commit)
    lake.ledger.readers.state("batch", commit)
    lake.flush([(1.0, 1.0)])
    assert lake.look(*ALL, end=2, before=0).hops["staging"].state == "arriving"
    later = time.time() + 600
    monkeypatch.setattr("ducklake.supervision.freshness.time.time", lambda: later)
    found = lake.look(*ALL, end=2, before=2)
    assert [found.hops[h].state for h in ("raw", "staging", "consume", "postgres")] == [
        "current",
        *["stalled"] * 3,
    ]
    assert found.hops["staging"].now_s == pytest.approx(600, abs=60)


def test_what_postgresql_refuses_is_told_with_its_reason(lake: Lake) -> None:
    commit = lake.flush([(1.0, 1.0)])
    lake.run(Arrivals(), commit, not_exported={"raw.orders": "a lock"})
    found = lake.look(*ALL, end=1, before=1)
    assert found.hops["staging"].state == "current"
    assert (found.hops["postgres"].state, found.hops["postgres"].reason) == ("arriving", "a lock")


LINEAGE = {
    "staging.stg_orders": ["raw.orders"],
    "staging.stg_rates": ["raw.rates"],
    "consume.sales": ["staging.stg_orders", "staging.stg_rates"],
    "consume.rates": ["staging.stg_rates"],
}


def states(found: TableFreshness) -> list[str]:
    return [found.hops[hop].state for hop in HOPS]


@pytest.mark.parametrize(
    ("held", "stalled"),
    [("staging.stg_orders", 3), ("consume.sales", 2), ("consume.rates", 0)],
)
def test_rows_behind_a_held_back_model_are_stalled_until_it_is_green(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, held: str, stalled: int
) -> None:
    replace_json(lake.ledger.paths.lineage, LINEAGE)
    meter, ends = FreshnessMeter(lake.config, lake.ledger), dict.fromkeys(HOPS[2:], time.time())
    red = {"consume.top": "depends on sales, which is held back", held: "test few: fail"}
    waiting = waiting_rows(LINEAGE, red, {})

    def cycle(commit: int, is_red: bool) -> Arrivals:
        arrivals = meter.measure(commit, ends, waiting if is_red else {})
        lake.run(arrivals, commit, held_back=red if is_red else {})
        lake.ledger.readers.state("batch", commit)
        return arrivals

    cycle(lake.flush([(9.0, 9.0)]), is_red=False)
    assert lake.look(*ALL, end=1, before=1).state == "idle"
    assert cycle(lake.flush([(1.0, 1.0)] * 2), is_red=True).lags[REF.topic, "raw"]
    last = lake.flush([(1.0, 1.0)])
    for _ in range(2):  # a cycle that brings nothing new changes nothing
        cycle(last, is_red=True)
    later = time.time() + 2 * 86_400
    monkeypatch.setattr("ducklake.supervision.freshness.time.time", lambda: later)
    found = lake.look(*ALL, end=4, before=4)
    assert states(found) == ["current"] * (5 - stalled) + ["stalled"] * stalled
    assert found.state == ("stalled" if stalled else "idle")
    assert found.problem() is None  # it is told as held back
    if stalled:
        assert found.hops["postgres"].reason == f"{held} is held back: test few: fail"
        assert found.hops["postgres"].now_s == pytest.approx(2 * 86_400, abs=60)
    green = cycle(last, is_red=False)
    counted = {hop: sum(green.lags.get((REF.topic, hop), {}).values()) for hop in HOPS}
    assert counted == dict(zip(HOPS, [0] * (5 - stalled) + [3] * stalled, strict=True))
    assert lake.look(*ALL, end=4, before=4).state == "idle"


def test_a_red_model_without_new_rows_before_it_is_no_stalled_table(lake: Lake) -> None:
    replace_json(lake.ledger.paths.lineage, LINEAGE)
    commit = lake.flush([(1.0, 1.0)])
    ends = dict.fromkeys(HOPS[2:], time.time())
    lake.run(FreshnessMeter(lake.config, lake.ledger).measure(commit, ends), commit)
    lake.ledger.readers.state("batch", commit)
    lake.run(Arrivals(), commit, held_back={"staging.stg_orders": "edited: error"})
    assert lake.look(*ALL, end=1, before=1).state == "idle"


def test_a_model_that_postgresql_refuses_and_one_that_is_away_hold_up_their_tables_alone(
    lake: Lake,
) -> None:
    replace_json(lake.ledger.paths.lineage, LINEAGE)
    commit = lake.flush([(1.0, 1.0)])
    lake.ledger.readers.state("batch", commit)  # raw goes on its own
    for more, reason in (
        ({"not_exported": {"consume.sales": "a lock"}}, "a lock"),
        ({"not_exported": {"consume.rates": "a lock"}}, ""),
        ({"export_error": "PostgreSQL is away"}, "PostgreSQL is away"),
    ):
        lake.run(Arrivals(), commit, **more)
        found = lake.look(*ALL, end=1, before=1).hops["postgres"]
        assert (found.state, found.reason) == ("arriving" if reason else "current", reason)


def test_a_source_that_stopped_is_stalled_before_kafka(lake: Lake) -> None:
    lake.flush([(1.0, 1.0)])
    problem = Problem("source shop", "retrying", time.time() - 5, "no route", "wait")
    found = lake.look(*ALL, end=1, before=1, problems=(problem,))
    assert (found.hops["topic"].state, found.hops["topic"].reason) == ("stalled", "no route")


def test_a_lake_without_a_ledger_has_no_freshness(tmp_path: Path) -> None:
    (tmp_path / "ducklake.yml").write_text(SETTINGS)
    assert look_at_freshness(load_config(tmp_path / "ducklake.yml"), Condition(), None) == ()
