from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import structlog

from lake.config import Config
from lake.errors import DuckLakeError, ServiceUnreachable, SourceError
from lake.records import Record
from producers import runner
from producers import source_loop as module
from producers.base import Batch, Connector, Cursors
from producers.runner import SourceRunner
from producers.transactions import TransactionalWriter
from tests.integration.producers_lab import Lab, make_lab, unique, wait_until

pytestmark = pytest.mark.stack
HERE = __name__


class Scripted(Connector):
    """Does what a test says at its first polls, and one row at each after them."""

    first: ClassVar[list[Callable[[], None]]] = []

    def poll(self, cursors: Cursors) -> Iterator[Batch]:
        if Scripted.first:
            Scripted.first.pop(0)()
        done = int(cursors.get("things:all", {}).get("done", 0)) + 1
        (table,) = self.source.tables
        yield Batch(table, "all", {"done": done}, [Record(table, str(done), {"n": done})])

    def count(self) -> dict[str, int]:
        return {"things": 1}


@pytest.fixture(autouse=True)
def nothing_scripted() -> Iterator[None]:
    Scripted.first = []
    yield
    Scripted.first = []


@pytest.fixture
def lab(tmp_path: Path, stack_config: Config) -> Lab:
    return make_lab(tmp_path, stack_config, scripted())


def scripted(**more: Any) -> dict[str, Any]:
    return {"type": f"{HERE}:Scripted", "poll_seconds": 600, "tables": {"things": {}}, **more}


def fail(error: BaseException) -> Callable[[], None]:
    def now() -> None:
        raise error

    return now


def run(lab: Lab, once: bool = True, stop: threading.Event | None = None) -> SourceRunner:
    sources = SourceRunner(lab.config, lab.endpoints)
    sources.run(stop or threading.Event(), once)
    return sources


def test_a_failing_source_stops_no_other(tmp_path: Path, stack_config: Config) -> None:
    drops = {"type": "sftp", "tables": {unique("f"): {"file": "stock.csv"}}}
    wrong = {"sftp": {"password": "hunter2"}}
    lab = make_lab(tmp_path, stack_config, scripted(), wrong, more={unique("z"): drops})
    with pytest.raises(SourceError, match="refuses the user"):
        run(lab)
    assert len(lab.rows("things")) == 1


def test_a_source_that_is_down_at_the_start_is_asked_again(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.05)
    made: list[str] = []

    class Counted(TransactionalWriter):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self.source)

    monkeypatch.setattr(runner, "TransactionalWriter", Counted)
    Scripted.first = [fail(ServiceUnreachable("down"))] * 3
    run(lab)
    assert len(lab.rows("things")) == 1
    assert len(made) == 1, "a second one would fence a producer that has taken over"


def test_after_an_unknown_commit_a_new_writer_asks_kafka(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.05)
    made: list[TransactionalWriter] = []

    class Unlucky(TransactionalWriter):
        """The first commit succeeds, and its answer is lost."""

        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

        def write(self, batch: Batch) -> None:
            super().write(batch)
            if len(made) == 1:
                self.usable = False
                raise ServiceUnreachable("no answer")

    monkeypatch.setattr(runner, "TransactionalWriter", Unlucky)
    run(lab)
    assert len(made) == 2
    assert sorted(seen.row["n"] for seen in lab.rows("things")) == [1, 2], "none twice"


def test_a_source_that_stays_down_ends_one_pass_with_its_error(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.05)
    Scripted.first = [fail(ServiceUnreachable("down for good"))] * 10
    with pytest.raises(ServiceUnreachable, match="down for good"):
        run(lab)
    assert len(Scripted.first) == 10 - module.ONCE_TRIES


def stops(lab: Lab, waiting: Callable[[], bool]) -> bool:
    """Whether a runner that waits for something ends once it is told to stop."""
    stop = threading.Event()
    sources = SourceRunner(lab.config, lab.endpoints)
    thread = threading.Thread(target=sources.run, args=(stop,))
    thread.start()
    try:
        wait_until(waiting, "it waits")
    finally:
        stop.set()
        thread.join(30)
    assert not sources.failed
    return not thread.is_alive()


def test_stop_ends_the_wait_between_two_polls(lab: Lab) -> None:
    assert stops(lab, lambda: bool(lab.rows("things")))


def test_what_was_still_being_written_is_looked_at_again_soon(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [False, False]
    monkeypatch.setattr(Scripted, "settled", lambda self: not answers or answers.pop())
    # though the next poll would be in ten minutes
    assert stops(lab, lambda: len(lab.rows("things")) == 3)


def test_stop_does_not_wait_for_a_server_that_does_not_answer(
    tmp_path: Path, stack_config: Config
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        spec = {"type": "rest", "tables": {"dolar_blue": {"options": {"url": "/blue"}}}}
        lab = make_lab(tmp_path, stack_config, spec, {"api": {"base_url": url}})
        silent.settimeout(30)
        accepted: list[socket.socket] = []

        def asked() -> bool:
            accepted.append(silent.accept()[0])
            return True

        assert stops(lab, asked)
        for connection in accepted:
            connection.close()


def test_no_log_and_no_error_carries_a_row(
    lab: Lab, tmp_path: Path, stack_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.05)
    Scripted.first = [fail(KeyError("juan.perez@example.com"))]
    with structlog.testing.capture_logs() as logs, pytest.raises(DuckLakeError) as error:
        run(lab)
    assert "KeyError in now, line" in str(error.value)
    assert "juan.perez" not in json.dumps(logs) + str(error.value)

    folder = stack_config.stack_dir / "sftp" / "root" / unique("drop")
    folder.mkdir()
    (folder / "people.csv").write_bytes(b'mail;name\njuan.perez@example.com;"x"y\nz\n')
    (folder / "people.json").write_bytes(b'[{"mail": "juan.perez@example.com"')
    tables = {
        "people": {"file": "people.csv", "options": {"delimiter": ";"}},
        "peers": {"file": "people.json"},
    }
    spec = {"type": "sftp", "directory": f"/{folder.name}", "tables": tables}
    people = make_lab(tmp_path, stack_config, spec)
    with structlog.testing.capture_logs() as logs:
        run(people)
    assert len(people.rejects()) == 3
    assert any("people.json" in entry.get("reason", "") for entry in logs)
    assert "juan.perez" not in json.dumps(logs)
    assert all("juan.perez" not in seen.about["reason"] for seen in people.rejects())


def test_with_no_source_of_its_own_it_stays_until_told_to_stop(
    tmp_path: Path, stack_config: Config
) -> None:
    lab = make_lab(tmp_path, stack_config, {"type": "kafka", "tables": {"things": {}}})
    SourceRunner(lab.config, lab.endpoints).run(threading.Event(), once=True)  # ends at once
    stop = threading.Event()
    runner = SourceRunner(lab.config, lab.endpoints)
    running = threading.Thread(target=runner.run, args=(stop,))
    running.start()
    running.join(1)
    assert running.is_alive()
    stop.set()
    running.join(5)
    assert not running.is_alive() and not runner.failed
