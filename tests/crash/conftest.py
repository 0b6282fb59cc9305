"""One broker and one fork server for all crash tests; a lake of its own for each test."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka.admin import AdminClient

from lake.config import Config, load_config
from tests.crash.forkserver import ForkServer
from tests.crash.oracle import LakeUnderTest, until
from tests.crash.readers import LedgerReader, PublicReader, Reader

_BROKER = """\
name: crashes
services:
  kafka: {bootstrap_servers: embedded}
  connect: {url: "http://127.0.0.1:9"}
  postgres: {host: 127.0.0.1}
sources: {}
"""


class Broker:
    """A Kafka broker that its supervisor starts again when it dies."""

    def __init__(self, config: Config) -> None:
        self._config = config
        at = config.endpoints()
        self.bootstrap = {"bootstrap.servers": at.kafka, **at.kafka_options}
        self.admin = AdminClient({**self.bootstrap, "log_level": 0})

    def pid(self) -> int:
        from stack import lifecycle

        [kafka] = lifecycle.status(self._config).services
        return kafka.pid or 0

    def kill(self) -> None:
        """As a crash of the machine would; returns when it is dead: it may answer until then."""
        process = psutil.Process(self.pid())
        process.kill()
        process.wait(30)

    def await_back(self) -> None:
        from stack import lifecycle

        until(lambda: lifecycle.status(self._config).services[0].healthy, "the broker", 90)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    from stack import lifecycle

    path = tmp_path_factory.mktemp("broker") / "ducklake.yml"
    path.write_text(_BROKER)
    config = load_config(path)
    lifecycle.up(config)
    try:
        yield Broker(config)
    finally:
        lifecycle.down(config)


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer]:
    server = ForkServer()
    try:
        yield server
    finally:
        server.close()


class LakeMaker:
    """Makes lakes on one broker, and ends their processes."""

    def __init__(self, folder: Path, bootstrap: Mapping[str, str], forks: ForkServer) -> None:
        self._folder, self._bootstrap, self._forks = folder, bootstrap, forks
        self.made: list[LakeUnderTest] = []
        self._readers: tuple[type[Reader], ...] = ()
        self._watching = ExitStack()

    def __call__(self, tables: dict[str, Any] | None = None, **settings: Any) -> LakeUnderTest:
        name = f"{settings.pop('prefix', 'c')}{secrets.token_hex(4)}"
        chosen = tables or {"orders": "plain", "stock": "plain", "customers": "cdc"}
        folder = settings.pop("folder", self._folder / name)
        lake = LakeUnderTest(folder, self._bootstrap, self._forks, name, chosen, **settings)
        self.made.append(lake)
        for reader in self._readers:
            self._watching.enter_context(reader(lake))
        return lake

    @contextmanager
    def watching(self, *readers: type[Reader]) -> Iterator[None]:
        """Readers look at every lake that is made, until the end; what they see wrong is raised."""
        self._readers = readers
        with self._watching:
            yield

    def close(self, failed: bool = False) -> None:
        for lake in self.made:
            if failed:
                print(f"DUCKLAKE_SEED={lake.seed}\n{lake.show_logs(60)}")
            lake.stop(signal.SIGKILL)


@pytest.fixture
def make_lake(
    tmp_path: Path, broker: Broker, forks: ForkServer, request: pytest.FixtureRequest
) -> Iterator[LakeMaker]:
    """Makes lakes; ends their processes after the test."""
    maker = LakeMaker(tmp_path, broker.bootstrap, forks)
    yield maker
    maker.close(getattr(request.node, "failed", False))


@pytest.fixture
def make_watched_lake(make_lake: LakeMaker) -> Iterator[LakeMaker]:
    """Makes lakes at which two readers look all the while."""
    with make_lake.watching(PublicReader, LedgerReader):
        yield make_lake


@pytest.fixture(scope="module")
def make_shared_lake(
    tmp_path_factory: pytest.TempPathFactory, broker: Broker, forks: ForkServer
) -> Iterator[LakeMaker]:
    """Makes lakes that live as long as their module's tests."""
    maker = LakeMaker(tmp_path_factory.mktemp("lakes"), broker.bootstrap, forks)
    yield maker
    maker.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, Any]:
    maker = getattr(item, "funcargs", {}).get("make_lake")
    if call.when == "call" and maker is not None and item.get_closest_marker("chance"):
        item.user_properties += [("seed", lake.seed) for lake in maker.made]
    report = yield
    if report.when == "call":
        item.failed = report.failed  # type: ignore[attr-defined]
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The seed of every random test, of those that passed as well."""
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.getreports(kind)]
    for report in reports:
        seeds = [str(value) for name, value in report.user_properties if name == "seed"]
        if report.when == "call" and seeds:
            terminalreporter.write_line(f"DUCKLAKE_SEED={','.join(seeds)}  {report.nodeid}")


@pytest.fixture
def lake(make_lake: LakeMaker) -> LakeUnderTest:
    return make_lake()
