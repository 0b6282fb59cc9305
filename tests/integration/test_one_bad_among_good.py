"""One bad file, record, column or table of each kind beside good ones, which reach PostgreSQL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import yaml

import ducklake.cli  # noqa: F401 - what it imports needs it to be first
from batcher.postgres import PostgresExport
from consumers.ingest.lake_writer import LakeWriter
from lake.config import Config, load_config
from lake.errors import SourceError
from lake.failpoints import ENVIRONMENT
from lake.ledger import NOW, Ledger
from lake.storage.paths import LakePaths
from producers.runner import SourceRunner
from tests.integration.producers_lab import Lab, make_lab, unique

pytestmark = pytest.mark.stack
SETTLED = 1_790_000_000
PATIENCE = 300.0
QUICK = {"quiet_seconds": 0.1}
GOOD_ROWS = b"id,word\n1,one\n2,two\n3,three\n"


@dataclass
class Lake:
    """The sources of a test, and all that lies behind them."""

    lab: Lab
    stack: Config
    folder: Path

    def drop(self, name: str, content: bytes, at: int = SETTLED) -> None:
        path = self.folder / name
        path.write_bytes(content)
        os.utime(path, (at, at))

    def produce(self) -> None:
        SourceRunner(self.lab.config, self.lab.endpoints, [self.lab.source]).run(
            threading.Event(), once=True
        )

    def consume(self) -> None:
        writer = LakeWriter(self.lab.config, self.lab.endpoints, once=True)
        try:
            writer.run(threading.Event())
        finally:
            writer.close()

    def export(self) -> None:
        with Ledger(LakePaths(self.lab.config.data_dir)) as ledger:
            (ledger.paths.root / "work").mkdir(parents=True, exist_ok=True)
            at = self.stack.endpoints().postgres
            export = PostgresExport(self.lab.config, at, ledger)
            assert export.export({}, ledger.commits.last()).held_back == {}

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """What PostgreSQL answers."""
        at = self.stack.endpoints().postgres
        opened = psycopg2.connect(
            host=at.host, port=at.port, user=at.user, password=at.password, dbname=at.database
        )
        try:
            with opened, opened.cursor() as cursor:
                cursor.execute(query)
                return list(cursor.fetchall())
        finally:
            opened.close()

    def states(self, topic: str) -> Counter[str]:
        """What became of all dead letters that a table ever had."""
        with Ledger(LakePaths(self.lab.config.data_dir)) as ledger:
            known = ledger.dead_letters.up_to(NOW - 1, all_states=True)
            return Counter(entry.state for entry in known if entry.source_table == topic)

    def redrive(self, *words: str, failpoint: str = "") -> tuple[int, Any]:
        """The exit code of `ducklake dead-letters redrive`, and what it prints."""
        own = ("--json", "--config", str(self.lab.config.path))
        done = subprocess.run(
            [sys.executable, "-m", "ducklake.cli", "dead-letters", "redrive", *words, *own],
            env={**os.environ, ENVIRONMENT: failpoint},
            capture_output=True,
            text=True,
            timeout=180,
        )
        return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


def make(folder: Path, stack: Config, tables: dict[str, Any]) -> Lake:
    files = folder / "drops"
    files.mkdir()
    spec = {"type": "files", "directory": str(files), "tables": tables}
    return Lake(make_lab(folder, stack, spec), stack, files)


def test_what_was_rejected_of_a_file_comes_back_once_its_options_are_mended(
    tmp_path: Path, stack_config: Config
) -> None:
    table = unique("stock")
    lake = make(tmp_path, stack_config, {table: {"file": "stock*.csv", "options": QUICK}})
    topic = f"{lake.lab.source}.{table}"
    lake.drop("stock.csv", b"sku;cost\nA;1\nB;2,5\nC;3\n")
    lake.drop("stock_gone.csv", b"sku;cost\nD;2,5\n")
    lake.produce()
    lake.consume()
    assert lake.states(topic) == {"dead": 2}
    (lake.folder / "stock_gone.csv").unlink()
    code, said = lake.redrive(topic)
    assert (code, said["files"]) == (1, [told(topic, waiting=1, gone=1)])
    assert lake.states(topic) == {"dead": 2}, "nothing was read again yet"

    settings = yaml.safe_load(lake.lab.config.path.read_text())
    settings["sources"][lake.lab.source]["tables"][table]["options"]["delimiter"] = ";"
    lake.lab.config.path.write_text(yaml.safe_dump(settings))
    lake.lab.config = load_config(lake.lab.config.path)
    lake.produce()
    code, _ = lake.redrive(topic, failpoint="settle.in_ledger")
    assert code == -signal.SIGKILL and lake.states(topic) == {"dead": 2}
    code, said = lake.redrive(topic)
    assert (code, said["files"]) == (1, [told(topic, resolved=1, gone=1)])
    lake.consume()
    lake.export()
    newest = f"SELECT max(_source_ts) FROM raw.{table} WHERE _file = 'stock.csv'"
    assert lake.ask(
        f"SELECT sku, cost, _file_rows FROM raw.{table} WHERE _source_ts = ({newest}) ORDER BY sku"
    ) == [("A", "1", 3), ("B", "2,5", 3), ("C", "3", 3)]
    assert lake.states(topic) == {"redriven": 1, "dead": 1}

    lake.drop("stock_gone.csv", b"sku;cost\nD;2,5\n")  # the other remedy: put it back
    lake.produce()
    assert lake.redrive(topic) == (
        0,
        {"tables": [], "rejects": {}, "files": [told(topic, resolved=1)]},
    )
    assert lake.redrive(topic) == (0, {"tables": [], "rejects": {}})


def test_a_running_producer_reads_them_again_while_the_command_waits(
    tmp_path: Path, stack_config: Config
) -> None:
    """What is bad in the new version as well is a dead letter of that one."""
    table = unique("stock")
    tables = {table: {"file": "stock.csv", "options": QUICK}}
    lake = make(tmp_path, stack_config, tables)
    topic = f"{lake.lab.source}.{table}"
    lake.drop("stock.csv", b"sku;cost\nA;1,5\n")
    lake.produce()
    lake.consume()
    assert lake.states(topic) == {"dead": 1}
    producer = subprocess.Popen(lake.lab.command(), stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE
        while not (lake.lab.config.data_dir / "run" / "produce.json").exists():
            assert time.monotonic() < deadline, "the producer does not start"
            time.sleep(0.1)
        code, said = lake.redrive(topic)
        assert (code, said["files"]) == (0, [told(topic, resolved=1)])
    finally:
        producer.terminate()
        producer.wait(PATIENCE)
    lake.consume()
    assert lake.states(topic) == {"redriven": 1, "dead": 1}


def test_a_table_that_stops_at_a_bad_file_ends_a_pass_with_its_name(
    tmp_path: Path, stack_config: Config
) -> None:
    strict, good = unique("strict"), unique("good")
    lake = make(
        tmp_path,
        stack_config,
        {
            strict: {"file": "s.csv", "options": QUICK, "dead_letters": {"policy": "stop"}},
            good: {"file": "good.csv", "options": QUICK},
        },
    )
    lake.drop("s.csv", b"id,word\n1\n")
    lake.drop("good.csv", GOOD_ROWS)
    with pytest.raises(SourceError, match=r"s\.csv, row 1: it has 1 fields"):
        lake.produce()
    assert len(lake.lab.rows(good)) == 3 and lake.lab.rows(strict) == lake.lab.rejects() == []
    lake.drop("s.csv", b"id,word\n1,one\n", at=SETTLED + 1)
    lake.produce()
    assert len(lake.lab.rows(strict)) == 1


def told(topic: str, **counts: int) -> dict[str, Any]:
    none = dict.fromkeys(("resolved", "waiting", "gone", "appended"), 0)
    return {"table": topic, **none, **counts}
