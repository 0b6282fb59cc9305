"""Metrics: the page lists each, the format is valid, and they say what `status` says.

python -m tests.unit.test_metrics        writes the tables of docs/METRICS.md anew
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pytest
import requests
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from batcher.failures import Failure
from consumers.ingest.flush import Flush, commit_flush
from ducklake.metrics.exposition import DEFINITIONS, text
from ducklake.monitor import Monitor
from ducklake.monitoring.lag_clock import LagClock
from ducklake.monitoring.light import COLOURS
from ducklake.monitoring.snapshot import Looker
from ducklake.reconciliation.result import DIFFERENT, LastResults, TableResult
from ducklake.supervision.kafka_ends import TopicEnds
from lake.config import Config, TableRef, load_config
from lake.formats import RunSummary
from lake.lags import upper_seconds
from lake.ledger import Ledger
from lake.ledger.freshness import Arrivals
from lake.processes.heartbeat import STOPPED, Part, RoleHeartbeat
from lake.processes.instruments import REGISTRY, InstrumentsFile
from lake.records import DeadLetter, OffsetRange
from lake.storage.json_files import write_json
from lake.storage.paths import LakePaths
from lake.storage.schema import Schema, source_column
from lake.storage.session import Session

PAGE = Path(__file__).resolve().parents[2] / "docs" / "METRICS.md"
OF_THE_LAKE, OF_ROLES = "## Of the lake", "## Of each role"
SETTINGS = """\
name: numbers
services: {kafka: {bootstrap_servers: "127.0.0.1:9"}, postgres: {host: 127.0.0.1}}
connections: {db: {host: 127.0.0.1, user: u, password: p, database: d}}
sources: {shop: {type: mysql_cdc, connection: db, tables: {orders: {key: [id]}, items: {}}}}
metrics: {port: PORT}
"""
TOPIC, ID = "shop.orders", "ab" * 16
SECRET = "juan.perez@example.com"
UNITS = re.compile(r"_(milliseconds|minutes|hours|kilobytes|megabytes|ms|mb|kb|percent)(_|$)")


def of_roles() -> list[Metric]:
    return [family for family in REGISTRY.collect() if family.name.startswith("ducklake_")]


def exported(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name


def tables() -> str:
    """What the page must hold."""
    head = ["| Metric | Type | Labels | Meaning |", "|---|---|---|---|"]
    lines = [OF_THE_LAKE, "", *head]
    for one in DEFINITIONS:
        labels = ", ".join(f"`{label}`" for label in one.labels) or "none"
        lines.append(f"| `{one.name}` | {one.kind} | {labels} | {one.help} |")
    lines += ["", OF_ROLES, "", *head]
    for family in of_roles():
        names = REGISTRY._names_to_collectors[family.name]._labelnames  # type: ignore[attr-defined]
        labels = ", ".join(f"`{label}`" for label in (*names, "role"))
        lines.append(
            f"| `{exported(family)}` | {family.type} | {labels} | {family.documentation} |"
        )
    return "\n".join(lines)


def test_the_page_lists_every_metric() -> None:
    stored = PAGE.read_text(encoding="utf-8").partition(OF_THE_LAKE)
    assert (
        f"{stored[1]}{stored[2]}".strip() == tables().strip()
    ), "run: python -m tests.unit.test_metrics"


def test_names_units_and_help_follow_the_conventions() -> None:
    known: list[tuple[str, str, str]] = [(one.name, one.kind, one.help) for one in DEFINITIONS]
    known += [(exported(f), f.type, f.documentation) for f in of_roles()]
    names = [name for name, _, _ in known]
    assert len(names) == len(set(names))
    for name, kind, help_ in known:
        assert re.fullmatch(r"(ducklake|kafka)(_[a-z]+)+", name), name
        assert name.endswith("_total") == (kind == "counter"), name
        assert not UNITS.search(name), f"{name}: seconds and bytes are the units"
        assert help_.endswith(".") and "\n" not in help_, name


# Over a lake -------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path) -> Config:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "ducklake.yml").write_text(SETTINGS.replace("PORT", str(port)))
    return load_config(tmp_path / "ducklake.yml")


def filled(config: Config) -> LakePaths:
    """A lake with a row, a dead letter whose text is secret, a cycle, a failing test."""
    paths = LakePaths(config.data_dir)
    stamp = pa.array([round(time.time() * 1e6)], pa.timestamp("us", "UTC"))
    rows = pa.table(
        {
            "id": [1],
            "_op": ["r"],
            "_source_ts": stamp,
            "_kafka_ts": stamp,
            "_topic": [TOPIC],
            "_partition": pa.array([0], pa.int32()),
            "_offset": pa.array([0], pa.int64()),
            "_topic_epoch": pa.array([0], pa.int32()),
        }
    )
    with Ledger(paths) as ledger, Session(paths) as session:
        state = ledger.tables.open(TOPIC, ID, 1)
        letter = DeadLetter(TOPIC, 0, 1, stamp[0].as_py(), TOPIC, SECRET, b"1", b"x", "{}")
        span = OffsetRange(ID, 0, 0, 1, 1)
        flush = Flush(
            state, {0: None}, [span], rows, Schema((source_column("id", "BIGINT"),)), (letter,)
        )
        commit_flush(ledger, session, TableRef("shop", "orders"), flush)
        summary = RunSummary(
            1,
            2,
            3,
            1,
            0,
            {"consume.sales": f"test t: {SECRET}"},
            {"dbt": 1.5, "export": 0.5},
            not_exported={"consume.sales": f"PostgreSQL: {SECRET}"},
        )
        ledger.runs.record(time.time(), 2.0, 0, summary)
    failing = Failure(
        "t", ("consume.sales",), "fail", SECRET, "SELECT 1", ("x",), ((SECRET,),), 0, 0, 1
    )
    write_json(paths.root / "failures.json", {"t": asdict(failing)})
    write_json(paths.lineage, {"staging.stg_orders": ["raw.orders"], "consume.sales": []})
    LastResults(paths).keep(TableResult(TOPIC, DIFFERENT, time.time(), 5, 4, missing=1))
    return paths


def parsed(exposition: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Sample name to the values by their labels; fails where it is not Prometheus' format."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(exposition):
        assert family.documentation and family.type != "unknown", family.name
        for sample in family.samples:
            values = found.setdefault(sample.name, {})
            at = tuple(sorted(sample.labels.items()))
            assert at not in values, f"{sample.name} {at} is there twice"
            values[at] = sample.value
    return found


def at(**labels: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


def ask(config: Config, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ducklake.cli", *words, "--config", str(config.path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_metrics_say_what_status_says_and_nothing_of_a_row(config: Config) -> None:
    paths = filled(config)
    heartbeat = RoleHeartbeat(paths.run, "consume")
    heartbeat.part(TOPIC, Part("table", STOPPED, reason="records are gone"))
    heartbeat.beat("reading")
    try:
        printed = ask(config, "metrics")
        status = json.loads(ask(config, "status", "--json").stdout)
    finally:
        heartbeat.close()
    assert printed.returncode == 0, printed.stderr
    assert SECRET not in printed.stdout
    found = parsed(printed.stdout)
    problems = {at(subject=p["subject"], state=p["state"]): 1 for p in status["problems"]}
    assert found["ducklake_problem_info"] == problems and len(problems) >= 2
    assert sum(found["ducklake_problems"].values()) == len(status["problems"])
    roles = status["roles"]
    assert found["ducklake_role_up"] == {
        at(role=name): role["state"] == "healthy" for name, role in roles.items()
    }
    for name, table in status["tables"].items():
        for aspect in ("fresh", "complete", "tested", "light"):
            value = found["ducklake_table_light"][at(table=name, aspect=aspect)]
            assert COLOURS[int(value)] == table[aspect]["colour"]
        dead = found["ducklake_dead_letters"][at(table=name)]
        assert dead == table["dead_letters"]
    for name, model in status["models"].items():
        light = found["ducklake_model_light"][at(model=name, aspect="light")]
        assert COLOURS[int(light)] == model["light"]["colour"]
    for name, fresh in status["freshness"].items():
        assert found["ducklake_table_state"][at(table=name, state=fresh["state"])] == 1
        assert sum(v for k, v in found["ducklake_table_state"].items() if name in dict(k).values())
    held_back = {at(relation=relation): 1 for relation in status["held_back"]}
    assert found["ducklake_held_back_relations"] == held_back and held_back
    assert found["ducklake_cycles_total"] == {(): status["last_cycle"]["number"]}
    assert found["ducklake_last_cycle_step_seconds"] == {
        at(step=step): seconds for step, seconds in status["last_cycle"]["steps"].items()
    }
    compared = status["reconciliation"][TOPIC]
    assert found["ducklake_reconciliation_differences"] == {at(table=TOPIC): compared["missing"]}
    assert found["ducklake_table_rows"][at(table=TOPIC)] == 1
    [failing] = status["failing_tests"]
    named = {"test": "t", "status": "fail"}
    assert found["ducklake_failing_tests"] == {at(relation="consume.sales", **named): 1}
    assert failing | named == failing and failing["relations"] == ["consume.sales"]
    assert failing["query"] == "SELECT 1" and failing["remedy"] == "ducklake failures"
    assert found["ducklake_not_exported_relations"] == {at(relation="consume.sales"): 1}


def test_a_killed_role_takes_its_values_with_it(config: Config) -> None:
    paths = LakePaths(config.data_dir)
    code = (
        "import sys, time; from pathlib import Path;"
        "from lake.processes.heartbeat import RoleHeartbeat;"
        "from lake.processes.instruments import PRODUCED, InstrumentsFile;"
        "beat = RoleHeartbeat(Path(sys.argv[1]), 'produce');"
        "PRODUCED.labels('shop.orders').inc(7); InstrumentsFile(Path(sys.argv[1]), 'produce');"
        "print('up', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(paths.run)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        looker = Looker(config)
        name, labels = "ducklake_produced_records_total", at(table=TOPIC, role="produce")
        assert parsed(text(config, looker.once()))[name] == {labels: 7}
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (paths.run / "produce.prom").exists()
        assert name not in parsed(text(config, looker.look()))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]


def test_a_cut_file_of_a_role_spoils_nothing(config: Config) -> None:
    paths = LakePaths(config.data_dir)
    heartbeat = RoleHeartbeat(paths.run, "batch")
    file = InstrumentsFile(paths.run, "batch")
    try:
        (paths.run / "batch.prom").write_text('ducklake_flush_seconds_bucket{le="0.01')
        assert "ducklake_info" in parsed(text(config, Looker(config).once()))
    finally:
        file.close()
        heartbeat.close()
    assert not (paths.run / "batch.prom").exists()


@pytest.fixture
def monitored(config: Config) -> Iterator[RoleHeartbeat]:
    filled(config)
    heartbeat = RoleHeartbeat(LakePaths(config.data_dir).run, "monitor")
    stop = threading.Event()
    thread = threading.Thread(target=Monitor(config, heartbeat).run, args=(stop,))
    thread.start()
    yield heartbeat
    stop.set()
    thread.join()
    heartbeat.close()


def served(config: Config, port: int) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        time.sleep(0.05)  # between two answers, or the monitor in this process does not get on
        try:
            answer = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5)
        except requests.ConnectionError:
            continue
        if "ducklake_look_timestamp_seconds" in answer.text:
            return answer.text
    pytest.fail("no metrics within a minute")


def test_a_taken_port_is_passed_over_and_the_address_is_in_status(
    config: Config, request: pytest.FixtureRequest
) -> None:
    port = config.settings.metrics.port
    assert isinstance(port, int)
    with socket.create_server(("127.0.0.1", port)):
        request.getfixturevalue("monitored")
        found = parsed(served(config, port + 1))
    assert found["ducklake_info"] and found["ducklake_table_rows"][at(table=TOPIC)] == 1
    role = json.loads(ask(config, "status", "--json").stdout)["roles"]["monitor"]
    assert role["state"] == "healthy"
    assert f":{port + 1}/metrics" in role["parts"]["metrics"]["reason"]


def test_lag_in_seconds_counts_from_the_first_look_that_saw_the_record() -> None:
    clock = LagClock()
    for moment, end in ((100.0, 5), (105.0, 5), (110.0, 8)):
        clock.add({TOPIC: TopicEnds({0: end}, {0: 0})}, moment)
    ends = TopicEnds({0: 8}, {0: 0})
    assert clock.seconds(TOPIC, ends, {0: 8}, 130.0) == 0
    assert clock.seconds(TOPIC, ends, {0: 5}, 130.0) == 20
    assert clock.seconds(TOPIC, ends, {0: 4}, 130.0) == 30
    assert LagClock().seconds(TOPIC, TopicEnds({0: 8}, {0: 8}), {0: 4}, 130.0) == 60


def test_what_a_new_run_measured_is_seen_by_the_next_look(config: Config) -> None:
    paths = filled(config)
    looker = Looker(config)
    name, labels = "ducklake_freshness_seconds", at(table=TOPIC, hop="raw", quantile="0.5")
    assert name not in parsed(text(config, looker.once()))
    for bucket, rows in ((20, 1), (40, 9)):
        with Ledger(paths) as ledger:
            arrivals = Arrivals({(TOPIC, "raw"): {bucket: rows}})
            ledger.runs.record(time.time(), 1.0, 1, RunSummary(1, 1, 1, 0, 0), arrivals)
        seconds = parsed(text(config, looker.look()))[name][labels]
        assert seconds == pytest.approx(upper_seconds(bucket), abs=1e-3)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.com"])
def test_metrics_without_a_login_stay_on_loopback(config: Config, host: str) -> None:
    text_ = config.path.read_text().replace("metrics: {", f"metrics: {{host: {host}, ")
    config.path.write_text(text_)
    shown = ask(config, "config", "check", "--offline")
    assert shown.returncode == 1 and "metrics.host" in shown.stderr and "line 5" in shown.stderr
    assert "Traceback" not in shown.stderr
    assert os.linesep in shown.stderr


if __name__ == "__main__":
    head = PAGE.read_text(encoding="utf-8").partition(OF_THE_LAKE)[0]
    PAGE.write_text(f"{head}{tables()}\n", encoding="utf-8")
