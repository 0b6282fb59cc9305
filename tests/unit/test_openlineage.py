"""OpenLineage events: which are told, where they go, and that nobody waits for them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from lake.config import Config, TableRef, load_config
from lake.errors import ConfigError, SourceError
from lake.openlineage import targets
from lake.openlineage.datasets import Dataset, DatasetNames, web_address
from lake.openlineage.events import BATCH, Step, Told
from lake.openlineage.recording import Recorder, lineage_told, produced, stopped
from lake.openlineage.runs import CycleRuns, Finished, FinishedCycle, StreamRuns
from lake.processes.backoff import Backoff
from lake.processes.heartbeat import RETRYING
from lake.storage.event_file import append_lines
from tests.heartbeats import KeptHeartbeat
from tests.ports import free_port

ORDERS = TableRef("drops", "orders")
ORIGIN = Dataset("file", "/drops/orders.csv")
KEY = "a-key-that-nobody-else-knows"
BASE = """
services:
  kafka: {bootstrap_servers: "SSL://broker-1:9092,broker-2:9092"}
  connect: {url: "http://connect:8083"}
  postgres: {host: db.example.com, password: "${PASSWORD}"}
sources:
  drops: {type: files, directory: drops, tables: {orders: {file: orders.csv}}}
"""


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "swordfish")
    monkeypatch.setenv("KEY", KEY)


def config_of(folder: Path, lineage: str) -> Config:
    (folder / "ducklake.yml").write_text(f"{BASE}lineage: {lineage}\n", encoding="utf-8")
    return load_config(folder / "ducklake.yml")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def states(told: list[Told]) -> list[str]:
    return [each.state for each in told]


def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


# What is told ----------------------------------------------------------------------------------


def test_a_run_is_told_as_it_begins_changes_and_ends_and_else_now_and_then() -> None:
    told: list[Told] = []
    clock = Clock()
    runs = StreamRuns(told.append, 60.0, clock)
    step = Step("consume.orders", (Dataset("kafka://a:1", "orders"),), (ORIGIN,))
    for _ in range(100):
        runs.moved(step, rows=3)
    assert states(told) == ["START"]
    clock.now += 60
    runs.moved(step)  # nothing was written: nothing is told
    runs.moved(step, rows=3)
    assert states(told) == ["START", "RUNNING"]
    wider = Step(step.job, step.inputs, (Dataset("file", ORIGIN.name, (("id", "BIGINT"),)),))
    runs.moved(wider, rows=3)
    runs.end()
    assert states(told) == ["START", "RUNNING", "RUNNING", "COMPLETE"]
    assert told[-1].rows == 306 and told[-1].step == wider
    assert len({each.run for each in told}) == 1


def test_a_failure_is_told_once_for_each_reason_and_what_goes_on_is_a_new_run() -> None:
    told: list[Told] = []
    runs = StreamRuns(told.append, 60.0, Clock())
    step = Step("produce.orders", (ORIGIN,))
    runs.moved(step)
    for _ in range(3):
        runs.failed(step, "SourceError")
    runs.moved(step)
    runs.end()
    assert states(told) == ["START", "FAIL", "START", "COMPLETE"]
    assert told[0].run == told[1].run != told[2].run


def test_of_cycles_what_changed_is_told_within_its_parent() -> None:
    told: list[Told] = []
    clock = Clock()
    runs = CycleRuns(told.append, 60.0, clock)

    def cycle(**problems: str) -> FinishedCycle:
        parts = [
            Finished(Step(f"dbt.{name}", (ORIGIN,), (ORIGIN,), BATCH), 1.0, 2.0, 5, problem)
            for name, problem in problems.items()
        ]
        return FinishedCycle(Finished(Step("cycle", processing=BATCH), 0.0, 3.0), parts)

    def tell(found: FinishedCycle) -> list[tuple[str, str]]:
        told.clear()
        due = runs.due(found)
        if due is not None:
            runs.tell(due)
        return [(each.step.job, each.state) for each in told]

    first = tell(cycle(a="", b=""))
    assert first[0] == ("cycle", "START") and first[-1] == ("cycle", "COMPLETE")
    assert first[1:-1] == [(f"dbt.{n}", s) for n in "ab" for s in ("START", "COMPLETE")]
    parent = told[0].run
    assert {each.parent for each in told if each.step.job != "cycle"} == {("cycle", parent)}
    assert tell(cycle(a="", b="")) == []
    assert ("dbt.b", "FAIL") in tell(cycle(a="", b="a test"))
    assert {job for job, _ in tell(cycle(a="", b=""))} == {"cycle", "dbt.b"}
    clock.now += 60
    assert {job for job, _ in tell(cycle(a="", b=""))} == {"cycle", "dbt.a", "dbt.b"}


def test_a_topic_and_a_table_have_the_names_of_the_specification(tmp_path: Path) -> None:
    config = config_of(tmp_path, "{}")
    names = DatasetNames(config, config.endpoints())
    assert names.topic(ORDERS) == Dataset("kafka://broker-1:9092", "drops.orders")
    assert names.postgres("raw.orders") == Dataset(
        "postgres://db.example.com:5432", "techstore.raw.orders"
    )
    raw = names.raw(ORDERS)
    assert (raw.namespace, raw.name) == ("file", f"{tmp_path}/data/raw/drops/orders")
    assert names.relation("raw.orders") == raw
    assert names.model("staging.a") == Dataset(
        f"duckdb://{tmp_path}/data/lake.duckdb", "lake.staging.a"
    )


def test_an_address_is_named_without_its_login_and_its_query() -> None:
    found = web_address("https://me:swordfish@api.example.com:8443/v1/rates?key=swordfish")
    assert found == Dataset("https://api.example.com:8443", "/v1/rates")


# Where it goes ---------------------------------------------------------------------------------


class Marquez(BaseHTTPRequestHandler):
    """Takes events as OpenLineage's HTTP API does."""

    answers: list[int]
    taken: list[tuple[str, str, Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = self.answers.pop(0) if self.answers else 201
        if status < 400:
            self.taken.append((self.path, self.headers["Authorization"], body))
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def marquez(port: int, *answers: int) -> Iterator[list[tuple[str, str, Any]]]:
    taken: list[tuple[str, str, Any]] = []
    handler = type("Handler", (Marquez,), {"answers": list(answers), "taken": taken})
    with HTTPServer(("127.0.0.1", port), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield taken
        finally:
            server.shutdown()
            thread.join()


def quick() -> Backoff:
    return Backoff(0.01, 0.05)


def test_a_dead_address_stops_nobody_is_said_once_and_gets_everything_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    config = config_of(
        tmp_path,
        f'{{url: "http://127.0.0.1:{port}", api_key: "${{KEY}}", file: e.ndjson, every: 0s}}',
    )
    heartbeat = KeptHeartbeat()
    with capture_logs() as logs, closing(Recorder(config, heartbeat, quick)) as recorder:
        monkeypatch.setattr("lake.openlineage.recording._recorder", recorder)
        began = time.monotonic()
        for _ in range(200):
            produced(ORDERS, lambda ref: [ORIGIN], 1)
        assert time.monotonic() - began < 5, "telling waits for nobody"
        until(lambda: recorder._senders[1]._backoff.failures > 3)
        part = heartbeat.parts["lineage url"]
        assert part.state == RETRYING and str(port) in part.reason and "lineage" in part.remedy
        assert set(heartbeat.parts) == {"lineage url"}, "the file has nothing to do with it"
        until(lambda: len(lines_of(tmp_path / "e.ndjson")) == 201)
        with marquez(port) as taken:
            until(lambda: len(taken) == 201)
            until(lambda: not heartbeat.parts)
            said = [entry["event"] for entry in logs]
    assert said == ["lineage_not_sent", "lineage_sent_again"]
    assert KEY not in str(logs) + str(part)
    assert {path for path, *_ in taken} == {"/api/v1/lineage"}
    assert {login for _, login, _ in taken} == {f"Bearer {KEY}"}
    rows = [
        event["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"]
        for *_, event in taken
        if event["eventType"] == "RUNNING"
    ]
    assert rows == list(range(1, 201)), "in order, none twice"


def test_an_event_that_is_refused_holds_up_no_other(tmp_path: Path) -> None:
    port = free_port()
    config = config_of(tmp_path, f'{{url: "http://127.0.0.1:{port}"}}')
    with (
        marquez(port, 422) as taken,
        capture_logs() as logs,
        closing(Recorder(config, pauses=quick)) as recorder,
    ):
        recorder.streams.moved(Step("a"))
        recorder.streams.moved(Step("b"))
        until(lambda: len(taken) == 1)
    assert taken[0][2]["job"] == {"facets": taken[0][2]["job"]["facets"]} | {
        "name": "b",
        "namespace": "techstore",
    }
    assert [entry["event"] for entry in logs] == ["lineage_not_sent", "lineage_sent_again"]
    assert logs[1]["lost"] == 1 and "422" in logs[0]["reason"]


def test_a_queue_that_is_full_loses_its_oldest_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "MOST_WAITING", 10)
    port = free_port()
    config = config_of(tmp_path, f'{{url: "http://127.0.0.1:{port}"}}')
    with closing(Recorder(config, pauses=quick)) as recorder:
        [sender] = recorder._senders
        until(lambda: not sender._waiting)
        for number in range(50):
            recorder.streams.moved(Step(str(number)))
        with marquez(port) as taken:
            until(lambda: taken and taken[-1][2]["job"]["name"] == "49")
        assert len(taken) + sender.lost == 50 and len(taken) <= 11


def test_no_text_of_an_error_and_no_secret_is_in_an_event(tmp_path: Path) -> None:
    config = config_of(tmp_path, '{file: "out/events.ndjson", api_key: "${KEY}"}')
    with lineage_told(config):
        produced(ORDERS, lambda ref: [ORIGIN], 1)
        stopped("produce.drops.orders", SourceError("row 3 has 'Juana Azurduy'", "Mend it."))
        stopped("consume.drops.orders", ValueError("'Juana Azurduy'"))
    text = (tmp_path / "out" / "events.ndjson").read_text()
    assert not {word for word in ("Juana", "swordfish", KEY) if word in text}
    events = [json.loads(line) for line in text.splitlines()]
    assert [event["eventType"] for event in events] == ["START", "FAIL", "START", "FAIL"]
    said = [e["run"]["facets"]["errorMessage"]["message"] for e in events[1::2]]
    assert said[0].startswith("SourceError: ") and said[1].startswith("UnexpectedError: ")


def test_what_goes_wrong_while_telling_is_said_once_and_stays_there(tmp_path: Path) -> None:
    def broken(ref: TableRef) -> list[Dataset]:
        raise RuntimeError("Juana Azurduy")

    with capture_logs() as logs, lineage_told(config_of(tmp_path, "{file: e.ndjson}")):
        for _ in range(3):
            produced(ORDERS, broken, 1)
    [entry] = logs
    assert entry["event"] == "lineage_not_told" and "Juana" not in str(entry)


def test_nothing_is_told_where_no_target_is_named(tmp_path: Path) -> None:
    with lineage_told(config_of(tmp_path, "{}")):
        produced(ORDERS, lambda ref: pytest.fail("nobody asks"), 1)


@pytest.mark.parametrize("url", ["https://me:swordfish@m.example.com", "ftp://m", "m:5000"])
def test_an_address_that_is_none_or_holds_a_login_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"line 8: lineage\.url") as refused:
        config_of(tmp_path, f'{{url: "{url}"}}')
    assert "swordfish" not in str(refused.value)


def _append(path: Path, name: str) -> None:
    for number in range(500):
        append_lines(path, f"{name} {number}\n".encode(), 500, 100)


def test_two_processes_that_put_a_file_aside_lose_no_line(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    context = get_context("spawn")
    writers = [context.Process(target=_append, args=(path, name)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    files = list(tmp_path.glob("events.ndjson*"))
    assert all(file.stat().st_size <= 500 for file in files) and len(files) > 3
    lines = [line for file in files for line in file.read_text().splitlines()]
    assert sorted(lines) == sorted(f"{name} {n}" for name in "ab" for n in range(500))


def test_of_files_that_were_put_aside_as_many_stay_as_configured(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    for number in range(20):
        append_lines(path, f"{number}\n".encode(), 3, 2)
    found = {file.name: file.read_text() for file in tmp_path.glob("events*")}
    assert found == {"events.ndjson": "19\n", "events.ndjson.1": "18\n", "events.ndjson.2": "17\n"}
