"""Every kind of source of our own, killed at random moments: each row is in Kafka once."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from lake.config import Config
from tests.crash.forkserver import ForkServer
from tests.integration.producers_lab import (
    Lab,
    committed,
    make_lab,
    shop_server,
    sql,
    unique,
    wait_until,
)
from tests.unit.rest_lab import Asked, Reply, Server, serving, table

pytestmark = [pytest.mark.stack, pytest.mark.chance]
KILLS = int(os.environ.get("DUCKLAKE_SOURCE_KILLS", "12"))
STEPS = ("after_begin", "after_rows", "after_flush", "after_commit")
ROWS = 40
"""That each source gets before a kill."""


class Sources:
    """One source of each kind, each with more rows before each kill."""

    def __init__(self, folder: Path, stack: Config, server: Server) -> None:
        self.given = 0
        self._drops = stack.stack_dir / "sftp" / "root" / unique("kills")
        self._local, self._lines = folder / "local", folder / "lines.jsonl"
        for made in (self._drops, self._local):
            made.mkdir()
        self._lines.touch()
        self._shop, self._table = shop_server(stack), unique("kills_")
        sql(
            self._shop,
            f"CREATE TABLE {self._table} (id INT PRIMARY KEY, at TIMESTAMP(6) NOT NULL"
            " DEFAULT CURRENT_TIMESTAMP(6), INDEX (at))",
        )
        self._events: list[dict[str, Any]] = []
        server.says["/events"] = self._answer
        self.names = {kind: unique(kind) for kind in ("files", "rest", "dlt", "poll")}
        files = {"quiet_seconds": 0.1}
        self.lab = make_lab(
            folder,
            stack,
            {
                "type": "sftp",
                "directory": f"/{self._drops.name}",
                "poll_seconds": 0.5,
                "tables": {"events": {"file": "*.csv", "key": ["id"], "options": files}},
            },
            {"api": {"base_url": server.url}},
            more=self._others(files),
        )

    def _others(self, files: dict[str, Any]) -> dict[str, Any]:
        again = {"poll_seconds": 0.5}
        grows = {"file": "*.ndjson", "key": ["id"], "options": {**files, "mode": "append"}}
        asked = {"parameter": "since", "cursor": "at", "start": 0, "lag": 5}
        paged = table("/events", paging={"type": "offset"}, incremental=asked)
        where = f"{__package__}.killed_sources:lines"
        lines = {"source": where, "arguments": {"path": str(self._lines)}}
        polled = {"table": self._table, "options": {"watermark": "at", "late_seconds": 60}}
        return {
            self.names["files"]: {
                **again,
                "type": "files",
                "directory": str(self._local),
                "tables": {"events": grows},
            },
            self.names["rest"]: {**again, "type": "rest", "tables": {"events": paged}},
            self.names["dlt"]: {
                **again,
                "type": "dlt",
                "options": lines,
                "tables": {"events": {}},
            },
            self.names["poll"]: {
                **again,
                "type": "mysql_poll",
                "connection": "mysql",
                "tables": {"events": polled},
            },
        }

    def _answer(self, asked: Asked) -> Reply:
        since, first = int(asked.query.get("since", 0)), int(asked.query["offset"])
        found = [row for row in self._events if row["at"] >= since]
        return Reply(found[first : first + 25])

    def give(self) -> None:
        """More rows for each; those of the API come late now and then."""
        ids = range(self.given, self.given + ROWS)
        self.given += ROWS
        for part in range(2):
            half = ids[part * ROWS // 2 : (part + 1) * ROWS // 2]
            text = "id\n" + "".join(f"{n}\n" for n in half)
            self._drop(self._drops / f"{half[0]:06d}.csv", text.encode(), half[0])
        rows = [{"id": n, "at": n // 10 + 1 - (n % 7 == 0)} for n in ids]
        lines = b"".join(orjson.dumps(row) + b"\n" for row in rows)
        grown = self._local / "events.ndjson"
        before = grown.read_bytes() if grown.exists() else b""
        self._drop(grown, before + lines, self.given)
        self._events += rows
        with self._lines.open("ab") as file:
            file.write(b"".join(orjson.dumps({"id": n, "at": n // 10}) + b"\n" for n in ids))
        sql(self._shop, f"INSERT INTO {self._table} (id) VALUES " + ",".join(f"({n})" for n in ids))

    def _drop(self, path: Path, content: bytes, age: int) -> None:
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(content)
        os.utime(part, (1_700_000_000 + age,) * 2)
        part.rename(path)

    def counts(self) -> dict[str, Counter[int]]:
        """By kind, how often each row is in Kafka."""
        found = {}
        for kind, source in {"sftp": self.lab.source, **self.names}.items():
            rows = [seen.row for seen in committed(self.lab.endpoints, f"{source}.events")]
            found[kind] = Counter(int((row.get("after") or row)["id"]) for row in rows)
        return found

    def close(self) -> None:
        shutil.rmtree(self._drops)
        sql(self._shop, f"DROP TABLE {self._table}")


@pytest.fixture
def sources(tmp_path: Path, stack_config: Config) -> Iterator[Sources]:
    with serving() as server:
        made = Sources(tmp_path, stack_config, server)
        yield made
        made.close()


def produce(lab: Lab, *words: str) -> list[str]:
    return ["produce", *words, "--config", str(lab.config.path)]


def test_all_kinds_of_sources_killed_at_random_moments(sources: Sources, tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance, processes = random.Random(seed), ForkServer()
    lab, log = sources.lab, tmp_path / "produce.log"
    try:
        for _ in range(KILLS):
            sources.give()
            if chance.random() < 0.5:
                point = f"producer.{chance.choice(STEPS)}:{chance.randrange(1, 8)}"
                number, pid = processes.start(produce(lab), log, point, 8)
                patience = 5.0
            else:
                number, pid = processes.start(produce(lab), log, "", 8)
                patience = chance.uniform(0.3, 2.5)
            deadline = time.monotonic() + patience
            while processes.exit_code(number) is None and time.monotonic() < deadline:
                time.sleep(0.05)
            if processes.exit_code(number) is None:
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda n=number: processes.exit_code(n) is not None, "it is dead")  # type: ignore[misc]
            assert processes.exit_code(number) == -signal.SIGKILL, log.read_text()
        sources.give()
        number, _ = processes.start(produce(lab, "--once"), log, "", 8)
        wait_until(lambda: processes.exit_code(number) is not None, "one more pass", 180)
        assert processes.exit_code(number) == 0, log.read_text()
    finally:
        processes.close()
    once = Counter(range(sources.given))
    for kind, found in sources.counts().items():
        repeated = {n for n, count in found.items() if count > 1}
        assert found == once, f"{kind}: {len(once - found)} lost, {len(repeated)} repeated"
