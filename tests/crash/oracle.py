"""A lake under test, and the oracle: it holds what was produced and committed, each record once."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import yaml

from consumers.compaction.compactor import Compactor
from consumers.maintenance.difference import Difference
from consumers.maintenance.verify import Verifier
from lake.config import Config, TableRef, load_config
from lake.kafka.topics import make_topics
from lake.ledger import NOW, Ledger
from lake.recovery import pinned
from lake.storage.paths import LakePaths, files_below
from lake.storage.session import Session, session_is_alive
from lake.storage.sql import rows_query
from tests.crash.forkserver import ForkServer
from tests.crash.loader import Kind, Loader, announce_types

DEADLINE = 45.0
COLUMNS = "_partition, _offset, id, text, amount, flag"
_DAY = re.compile(r"/year=(\d+)/month=(\d+)/day=(\d+)/")


def until(
    condition: Callable[[], Any], what: str | Callable[[], str], seconds: float = DEADLINE
) -> Any:
    """Wait for a condition, and say what was waited for if it never comes."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            said = what if isinstance(what, str) else what()
            raise AssertionError(f"not within {seconds:.0f} s: {said}")
        time.sleep(0.02)
    return found


@dataclass
class Worker:
    """One process of the lake: its number, which is its alone, and its process id."""

    number: int
    pid: int
    log: Path
    server: ForkServer = field(repr=False)

    def exit_code(self) -> int | None:
        return self.server.exit_code(self.number)

    def text(self) -> str:
        """Its log so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def signal(self, number: int) -> None:
        if self.exit_code() is None:
            os.kill(self.pid, number)

    def await_end(self, seconds: float = DEADLINE) -> int:
        until(lambda: self.exit_code() is not None, f"the end of {self}", seconds)
        code = self.exit_code()
        assert code is not None
        return code


class LakeUnderTest:
    """A lake of its own on a shared broker.

    Args:
        folder: Where its configuration and its data go.
        bootstrap: Where Kafka is, and how to log in: settings of any client.
        server: Starts its processes.
        name: Unique; topics begin with it.
        tables: Table to kind.
        consumer: Settings that differ from the tests' quick ones.
        options: librdkafka settings.
    """

    def __init__(
        self,
        folder: Path,
        bootstrap: Mapping[str, str],
        server: ForkServer,
        name: str,
        tables: Mapping[str, Kind],
        consumer: Mapping[str, object] | None = None,
        options: Mapping[str, str] | None = None,
        partitions: int = 2,
        merge_files: int = 64,
    ) -> None:
        self._server = server
        self.merge_files = merge_files
        self.workers: list[Worker] = []
        self.logs = folder / "logs"
        self.logs.mkdir(parents=True)
        self.config = _configure(folder, bootstrap, name, tables, consumer, options, partitions)
        self.paths = LakePaths(self.config.data_dir)
        kinds: dict[str, Kind] = {f"{name}_{k}.{t}": k for t, k in tables.items()}
        self.topics = list(kinds)
        self.refs = {t: TableRef(*t.split(".")) for t in self.topics}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            make_topics(self.config, self.config.endpoints())
        if "cdc" in tables.values():
            announce_types(bootstrap, f"{name}_cdc", [t for t, k in tables.items() if k == "cdc"])
        self.seed = int(os.environ.get("DUCKLAKE_SEED") or int.from_bytes(os.urandom(4)))
        print(f"seed: DUCKLAKE_SEED={self.seed}")
        self.loader = Loader(bootstrap, kinds, self.seed)

    # Processes -----------------------------------------------------------------------------

    def start(self, *arguments: str, failpoint: str = "") -> Worker:
        """Run a command of the project on this lake."""
        log = self.logs / f"{len(self.workers):03}-{arguments[0]}-{failpoint or 'none'}.log"
        words = [*arguments, "--config", str(self.config.path)]
        number, pid = self._server.start(words, log, failpoint, self.merge_files)
        worker = Worker(number, pid, log, self._server)
        self.workers.append(worker)
        return worker

    def running(self) -> list[Worker]:
        return [w for w in self.workers if w.exit_code() is None]

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End all processes; with SIGTERM they commit what they hold."""
        for worker in self.running():
            worker.signal(number)
            worker.signal(signal.SIGCONT)
        for worker in self.workers:
            worker.await_end()

    def show_logs(self, lines: int = 25) -> str:
        """The ends of the logs of all processes."""
        ends = []
        for worker in self.workers:
            tail = "\n".join(worker.text().splitlines()[-lines:])
            ends.append(f"--- {worker.log.name} (exit {worker.exit_code()})\n{tail}")
        return "\n".join(ends)

    # The oracle ----------------------------------------------------------------------------

    def caught_up(self, topics: Iterable[str] | None = None) -> bool:
        """Whether the ledger's positions are past all that is expected."""
        if not self.paths.ledger.exists():
            return False
        with Ledger(self.paths) as ledger:
            for topic in topics or self.topics:
                state = ledger.tables.get(topic)
                held = state.positions if state else {}
                if any(held.get(p, 0) < end for p, end in self.loader.truths[topic].ends().items()):
                    return False
        return True

    def last_commit(self) -> int:
        """The number of the newest commit that brought rows."""
        if not self.paths.ledger.exists():
            return 0
        with Ledger(self.paths) as ledger:
            return ledger.commits.last()

    def await_caught_up(self, topics: Iterable[str] | None = None) -> None:
        chosen = list(topics or self.topics)
        self.loader.settle()
        until(lambda: self.caught_up(chosen), f"all records of {chosen} in the lake")

    def check(self, topics: Iterable[str] | None = None) -> None:
        """The oracle, after everything was committed; ends with everything public."""
        chosen = list(topics or self.topics)
        for topic in chosen:
            self.check_ledger(topic)
        self.seal()
        for topic in chosen:
            self.check_ledger(topic)
            self.check_public(topic)
        self.check_files()
        assert self.verify() == ()

    def check_ledger(self, topic: str) -> None:
        """What the ledger finds is what was produced, each record once, values equal."""
        truth = self.loader.truths[topic]
        with (
            Ledger(self.paths) as ledger,
            Session(self.paths) as session,
            pinned(ledger, session) as last,
        ):
            found = list(self.read(ledger, topic, last))
            state = ledger.tables.get(topic)
            assert state is not None
            entries = [e for e in ledger.dead_letters.up_to(1 << 60) if e.topic == topic]
            payloads = ledger.dead_letters.payloads(entries)
            dead_letters = [
                ((e.partition, e.offset), payload and payload.value)
                for e, payload in zip(entries, payloads, strict=True)
            ]
        self._same(topic, found, "the ledger")
        assert Counter(k for k, _ in dead_letters) == Counter(
            list(truth.dead_letters)
        ), f"dead letters of {topic}"
        assert dict(dead_letters) == truth.dead_letters

    def read(self, ledger: Ledger, topic: str, up_to: int, after: int = 0) -> Iterator[Any]:
        """Rows through the ledger, as everything downstream reads them."""
        state = ledger.tables.get(topic)
        if state is None or not state.schema.columns:
            return
        columns = state.schema.relation(self.config.kind(self.refs[topic]))
        with duckdb.connect() as db:
            for new in ledger.files.new_rows(topic, after, up_to):
                query = rows_query(columns, [new.path], new.ranges)
                yield from db.execute(f"SELECT {COLUMNS} FROM ({query})").fetchall()

    def check_public(self, topic: str, all_of_it: bool = True) -> None:
        """What a plain glob finds is the same, and each row lies in the folder of its day."""
        with Ledger(self.paths) as ledger:
            generation = ledger.tables.generation_at(topic, NOW) or 0
        public = self.paths.raw(self.refs[topic], generation)
        if not any(public.rglob("*.parquet")):
            self._same(topic, [], "a glob", all_of_it)
            return
        with duckdb.connect() as db:
            db.execute("SET TimeZone = 'UTC'")
            found = db.execute(
                f"SELECT {COLUMNS}, filename, _kafka_ts::DATE FROM read_parquet("
                f"'{public}/**/*.parquet', hive_partitioning = false, union_by_name = true,"
                " filename = true)"
            ).fetchall()
        for *_, filename, day in found:
            match = _DAY.search(filename)
            assert match is not None
            assert tuple(map(int, match.groups())) == (day.year, day.month, day.day), filename
        self._same(topic, [row[:-2] for row in found], "a glob", all_of_it)

    def _same(self, topic: str, found: list[Any], reader: str, all_of_it: bool = True) -> None:
        truth = self.loader.truths[topic]
        counts = Counter((row[0], row[1]) for row in found)
        twice = sorted(k for k, n in counts.items() if n > 1)
        missing = sorted(set(truth.rows) - set(counts)) if all_of_it else []
        extra = sorted(set(counts) - set(truth.rows))
        assert not (twice or missing or extra), (
            f"{reader} of {topic}: {len(twice)} twice {twice[:5]}, {len(missing)} missing"
            f" {missing[:5]}, {len(extra)} too many {extra[:5]}\n{self.show_logs()}"
        )
        for partition, offset, number, text, amount, flag in found:
            row = truth.rows[partition, offset]
            assert (int(number), text, str(amount), bool(flag)) == (
                row["id"],
                row["text"],
                row["amount"],
                row["flag"],
            ), f"{reader} of {topic}: values of {partition}, {offset}"

    def check_in_between(self) -> None:
        """The oracle while not everything is public: a glob finds a part of it."""
        for topic in self.topics:
            self.check_ledger(topic)
            self.check_public(topic, all_of_it=False)
        self.check_files()

    def check_files(self) -> None:
        """No file in hot/ or raw/ is unknown to the ledger; nothing is left in staging."""
        with Ledger(self.paths) as ledger:
            for tier, folders in (("hot", ["hot"]), ("sealed", ["raw", "generations"])):
                found = {self.paths.relative(p) for f in folders for p in self._parquet(f)}
                assert found == ledger.files.known_paths(tier), f"files in {folders}"
        assert not list(self._parquet("staging"))

    def _parquet(self, folder: str) -> Iterator[Path]:
        return (p for p in files_below(self.paths.root / folder) if _is_data(p))

    def seal(self) -> None:
        """Make everything public, as `ducklake compact --now` does."""
        compactor = Compactor(self.config)
        try:
            compactor.pass_once(force=True)
        finally:
            compactor.close()

    def verify(self) -> tuple[Difference, ...]:
        """What `ducklake verify` finds."""
        verifier = Verifier(self.config, self.config.endpoints())
        return verifier.verify(list(self.config.tables())).differences

    def left_behind(self) -> dict[str, str]:
        """Path to checksum of what killed processes wrote and neither committed nor announced."""
        with Ledger(self.paths) as ledger:
            known = ledger.files.known_paths("hot")
            known |= ledger.intended_paths()
        sessions = {p: p.name.partition("-")[0] for p in self._parquet("hot")}
        sessions |= {p: p.parent.name for p in self._parquet("staging")}
        left = {}
        for path, session in sessions.items():
            relative = self.paths.relative(path)
            if relative not in known and not session_is_alive(self.paths, session):
                left[relative] = _sha(path)
        return left

    def check_nothing_was_deleted(self, left: dict[str, str]) -> None:
        """What a killed process left was quarantined, whole or half as it was."""
        quarantined = {_sha(p) for p in self._parquet("orphans")}
        lost = [path for path, sha in left.items() if sha not in quarantined]
        assert not lost, f"neither in the lake nor in orphans/: {lost}"


def _is_data(path: Path) -> bool:
    return path.name != "lock"


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def utc(text: str) -> int:
    """An ISO moment in UTC as Kafka's milliseconds."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def _configure(
    folder: Path,
    bootstrap: Mapping[str, str],
    name: str,
    tables: Mapping[str, Kind],
    consumer: Mapping[str, object] | None,
    options: Mapping[str, str] | None,
    partitions: int,
) -> Config:
    sources: dict[str, Any] = {}
    types = {"plain": "plain", "cdc": "mysql_cdc"}
    columns = {"id": "BIGINT", "amount": "DECIMAL(12,2)", "flag": "BOOLEAN"}
    for table, kind in tables.items():
        source = sources.setdefault(f"{name}_{kind}", {"type": types[kind], "tables": {}})
        source["tables"][table] = {"columns": columns if kind == "plain" else {}}
    login = {key: text for key, text in bootstrap.items() if key != "bootstrap.servers"}
    quick = {"flush_seconds": 0.05, "seal_max_age_seconds": 1.0, **(consumer or {})}
    settings = {
        "name": name,
        "data_dir": "data",
        "services": {
            "kafka": {
                "bootstrap_servers": bootstrap["bootstrap.servers"],
                "options": {**login, "reconnect.backoff.max.ms": "500", **(options or {})},
            },
            "connect": {"url": "http://127.0.0.1:9"},
            "postgres": {"host": "127.0.0.1"},
        },
        # The records of some stories are years old: the broker would remove them at its next look.
        "topics": {"partitions": partitions, "retention_days": 36_500},
        "sources": sources,
        "consumer": quick,
    }
    path = folder / "ducklake.yml"
    path.write_text(yaml.safe_dump(settings))
    return load_config(path)
