"""A lake is opened in one way; what fails on the way leaves no lock, connection or session."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from batcher import cycle as batch_module
from batcher.cycle import Batch
from consumers.compaction import compactor as compactor_module
from consumers.compaction.compactor import Compactor
from consumers.ingest import lake_writer as writer_module
from consumers.ingest.lake_writer import LakeWriter
from lake import opening
from lake.config import Config, load_config
from lake.errors import LedgerError
from lake.ledger import Ledger, LedgerReader
from lake.ledger import core as core_module
from lake.ledger.replacing import at_rest
from lake.opening import open_lake
from lake.storage.paths import LakePaths
from lake.storage.session import Session

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = """\
services:
  kafka: {bootstrap_servers: "127.0.0.1:9"}
  connect: {url: "http://127.0.0.1:9"}
  postgres: {host: 127.0.0.1}
sources: {shop: {type: plain, tables: {orders: {}}}}
"""


class Failure(Exception):
    """What happens in the middle of an opening."""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "ducklake.yml").write_text(SETTINGS)
    config = load_config(tmp_path / "ducklake.yml")
    Ledger(LakePaths(config.data_dir)).close()
    return config


def _open_files(below: Path) -> list[str]:
    """Files of the lake that this process has open: connections and locks are such."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        if target.startswith(str(below)):
            found.append(target)
    return found


def assert_nothing_is_left(config: Config) -> None:
    paths = LakePaths(config.data_dir)
    assert _open_files(paths.root) == []
    assert not paths.staging.exists() or list(paths.staging.iterdir()) == []
    with at_rest(paths):
        pass
    lock = paths.root / "compactor.lock"
    if lock.exists():
        with lock.open("w") as mine:
            fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _open(for_writing: bool) -> Callable[[Config], object]:
    def opened(config: Config) -> object:
        with open_lake(config, for_writing=for_writing) as lake, lake.pinned():
            raise Failure  # where no step failed: within the block

    return opened


OPENINGS: dict[str, tuple[Callable[[Config], object], list[tuple[object, str]]]] = {
    "for reading": (
        _open(False),
        [
            (core_module, "connected"),
            (opening, "assert_ledger_current"),
            (opening, "Session"),
            (opening, "pinned"),
        ],
    ),
    "for writing": (
        _open(True),
        [
            (core_module, "connected"),
            (core_module, "bring_up_to_date"),
            (opening, "assert_ledger_current"),
            (opening, "Session"),
            (opening, "recover"),
            (opening, "drop_abandoned"),
        ],
    ),
    "the compactor": (
        Compactor,
        [
            (compactor_module, "only_compactor"),
            (compactor_module, "spilling"),
            (compactor_module, "finish_compactions"),
        ],
    ),
    "a worker": (
        lambda config: LakeWriter(config, config.endpoints()),
        [
            (opening, "recover"),
            (writer_module, "make_topics"),
            (writer_module, "admin"),
            (writer_module, "Decoders"),
            (writer_module, "Membership"),
        ],
    ),
    "the batch": (
        lambda config: Batch(config, config.endpoints()),
        [(batch_module, "DbtProject"), (batch_module, "PostgresExport")],
    ),
}


@pytest.mark.parametrize(
    ("how", "module", "step"),
    [
        pytest.param(how, module, step, id=f"{how}-{step}")
        for how, (_, steps) in OPENINGS.items()
        for module, step in steps
    ],
)
def test_an_opening_that_fails_leaves_nothing_behind(
    how: str, module: object, step: str, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise Failure

    with monkeypatch.context() as patch:
        for name in ("make_topics", "admin"):  # Kafka is not there, and is not what fails
            patch.setattr(writer_module, name, lambda *_, **__: None)
        patch.setattr(batch_module, "DbtProject", lambda *_: None)  # no project is there either
        patch.setattr(module, step, fail)
        with pytest.raises(Failure):
            OPENINGS[how][0](config)
    assert_nothing_is_left(config)


@pytest.mark.parametrize("for_writing", [True, False])
def test_what_fails_within_the_block_leaves_nothing_behind(
    config: Config, for_writing: bool
) -> None:
    with pytest.raises(Failure):
        _open(for_writing)(config)
    assert_nothing_is_left(config)


def test_whoever_only_reads_cannot_write(config: Config) -> None:
    with open_lake(config, for_writing=False) as lake:
        assert type(lake.ledger) is LedgerReader
        with (
            pytest.raises(LedgerError, match="READONLY"),
            lake.ledger._core.write() as db,
        ):
            db.execute("DELETE FROM pins")


def test_whoever_looks_makes_no_session_until_it_pins(config: Config) -> None:
    with open_lake(config, for_writing=False) as lake:
        assert not lake.paths.staging.exists()
        with lake.pinned():
            assert lake.ledger._core.db.execute("SELECT count(*) FROM pins").fetchone() == (1,)
        assert lake.ledger._core.db.execute("SELECT count(*) FROM pins").fetchone() == (0,)


def test_a_stale_ledger_is_refused_before_anything_is_touched(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(_: LedgerReader) -> None:
        raise LedgerError("It is older than the lake's files.")

    left = LakePaths(config.data_dir).root / "hot" / "shop" / "orders" / "dead-1.parquet"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"")
    monkeypatch.setattr(opening, "assert_ledger_current", stale)
    for for_writing in (True, False):
        with (
            pytest.raises(LedgerError, match="older"),
            open_lake(config, for_writing=for_writing),
        ):
            pass
    assert left.exists()


def test_nobody_opens_a_lake_in_another_way() -> None:
    """Whoever opens the ledger by itself skips what has to come first."""
    allowed = {
        "consumers/replay/build.py",  # helpers of a rebuild that has opened the lake
        "consumers/maintenance/backup.py",  # copies it, however old it is
        "consumers/maintenance/ledger_rebuild/rebuild.py",  # makes it
        "ducklake/dagster_assets/definitions.py",  # only asks, as do the next ones
        "ducklake/dagster_assets/ingestion.py",
        "ducklake/doctor/kafka.py",
        "ducklake/doctor/machine.py",  # says whether it can be opened
        "ducklake/monitoring/observation.py",
        "ducklake/projects/planning.py",
        "ducklake/supervision/freshness.py",  # only asks, also where a remedy is needed first
    }
    opens = re.compile(
        r"(?<![.\w])(Ledger|LedgerReader|LedgerCore|Session)\(|assert_ledger_current\("
    )
    found = {
        path.relative_to(ROOT).as_posix()
        for package in ("consumers", "batcher", "ducklake", "producers", "stack")
        for path in (ROOT / package).rglob("*.py")
        if opens.search(path.read_text())
    }
    assert found <= allowed
    assert found, "the pattern finds those that are there"


def test_a_session_lives_as_long_as_its_lake(config: Config) -> None:
    with open_lake(config, for_writing=True) as lake:
        session = lake.session
        assert isinstance(session, Session) and session.folder.is_dir()
    assert not session.folder.exists()
