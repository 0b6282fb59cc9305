"""One bad file, record, column or table of each kind beside good ones, which reach PostgreSQL."""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xlwt
import yaml
from confluent_kafka import Producer
from confluent_kafka.admin import NewTopic

from batcher.catalog import SHOWN_BYTES, opened, refresh_dead_letters
from batcher.postgres import PostgresExport
from consumers.ingest.lake_writer import LakeWriter
from lake.config import Config, load_config
from lake.errors import DeadLetterLimit, ServiceUnreachable, SourceError
from lake.failpoints import ENVIRONMENT
from lake.kafka.topics import admin
from lake.ledger import NOW, Ledger
from lake.storage.paths import LakePaths
from producers.runner import SourceRunner
from tests.integration.postgres_lab import answer
from tests.integration.producers_lab import Lab, make_lab, unique
from tests.unit import workbooks
from tests.unit.rest_lab import serving

pytestmark = pytest.mark.stack
SETTLED = 1_790_000_000
PATIENCE = 300.0
QUICK = {"quiet_seconds": 0.1}
GOOD_ROWS = b"id,word\n1,one\n2,two\n3,three\n"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
BAD_FILES = {
    "utf16.csv": "id,word\n1,ñ\n".encode("utf-16-le"),
    "empty.json": b"",
    "half.json": b'[{"id": 1}, {"id":',
    "deep.xml": b"<rows>" + b"<a>" * 2_000 + b"</a>" * 2_000 + b"</rows>",
    "broken.xlsx": b"PK\x03\x04 no workbook at all",
    "old.xls": OLE + b" nor this",
    "broken.parquet": b"PAR1 nor this PAR1",
    "packed.csv.gz": b"\x1f\x8b\x08\x00 nor this",
    "nul.csv": b"\x00\x00\x00\x00",
    "wide.csv": b"," * 20_000 + b"x\n1\n",
    "other.xml": b"<t><line><a>1</a></line></t>",
    "entities.xml": b'<!DOCTYPE t [<!ENTITY a "x">]><t><row><x>&a;</x></row></t>',
    "protected.xlsx": OLE + b"\0" * 600 + "EncryptedPackage".encode("utf-16-le"),
    "page.xlsb": b"<html><table></table></html>",
    "broken.ods": b"PK\x03\x04 nor this",
    "none.csv.zip": b"no ZIP",
}
BAD_ROWS = b'id,word\n1,one\n2\n3,"open\n4,four\n5,\xff\n6,six\n'
UNCALCULATED = "is a formula without a stored value"


def binary_workbook() -> bytes:
    """An .xlsb with the numbers 1, -1 (shown as a date) and 2 below `id`."""
    data = workbooks.record(0, b"\0" * 17)
    data += workbooks.record(6, b"\0" * 8 + workbooks.wide("id"))
    for row, (style, number) in enumerate(((0, 1.0), (1, -1.0), (0, 2.0)), 1):
        data += workbooks.record(0, struct.pack("<I", row) + b"\0" * 13)
        data += workbooks.record(5, struct.pack("<2Id", 0, style, number))
    return workbooks.xlsb_of(data, (4, 1), styles=workbooks.xlsb_styles(14))


def parquet_file() -> bytes:
    """A Parquet file with a moment in the year 300000 between two others."""
    made = io.BytesIO()
    moments = pa.array([0, 10**16, 0], pa.timestamp("ms", "UTC"))
    pq.write_table(pa.table({"id": [1, 9, 2], "at": moments}), made)
    return made.getvalue()


ONE_BAD_ROW: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "row.json": (b'[{"id": 1}, {"id": 9, "s": "\\ud800"}, {"id": 2}]', {}, "half a character"),
    "key.json": (b'[{"id": 1}, {"id": 9, "id": 8}, {"id": 2}]', {}, "twice"),
    "row.ndjson": (b'{"id": 1}\n{"id": 9, \n{"id": 2}\n', {}, "not JSON"),
    "mark.csv": ("id,n\n1,x\n\ufeffid,n\n2,y\n".encode(), {}, "byte order mark"),
    "row.tsv": (b"id\tn\n1\tx\n9\n2\ty\n", {}, "it has 1 fields"),
    "row.xml": (
        b"<t><row><id>1</id></row><row><id>9</id><a><b/></a></row><row><id>2</id></row></t>",
        {"nested": "reject"},
        "a",
    ),
    "row.xlsx": (
        workbooks.xlsx_of(
            '<row><c t="inlineStr"><is><t>id</t></is></c></row><row><c><v>1</v></c></row>'
            "<row><c><f>1+8</f></c></row><row><c><v>2</v></c></row>"
        ),
        {},
        UNCALCULATED,
    ),
    "row.txt": (b"id,n\n1,x\n9\n2,y\n", {}, "it has 1 fields"),
    "row.fwf": (b"idn\n 1x\n 9\xff\n 2y\n", {"widths": [2, 1]}, "not valid utf-8"),
    "row.xlsb": (binary_workbook(), {}, "is shown as a date"),
    "row.parquet": (parquet_file(), {}, "is out of range"),
    "row.xls": (workbooks.xls([["id"], [1], [xlwt.Formula("1+8")], [2]]), {}, UNCALCULATED),
    "row.ods": (
        workbooks.ods_of(
            "".join(
                f"<table:table-row><table:table-cell {cell}</table:table-row>"
                for cell in (
                    'office:value-type="string"><text:p>id</text:p></table:table-cell>',
                    'office:value-type="float" office:value="1"/>',
                    'table:formula="of:=1+8"/>',
                    'office:value-type="float" office:value="2"/>',
                )
            )
        ),
        {},
        UNCALCULATED,
    ),
}
"""A file of each format: the rows 1 and 2, one between them that costs itself, and why."""
ODD_NAMES = b"id,*,\\,name,Name,xmin," + b"x" * 90 + b',"a""b"\n1,2,3,4,5,6,7,8\n'
RECORDS: dict[bytes, str] = {
    b"no JSON": "the value is not a JSON object",
    b'{"id": 1': "the value is not a JSON object",
    b'[{"id": 1}]': "the value is not a JSON object",
    b'{"id": "\xff"}': "the value is not UTF-8",
    b'{"a\\u0000b": 1}': "a key of the object contains a NUL character",
    b'{"id": 1, "id": 2}': "the object has a key twice",
    b'{"id": 1, "at": "2024-01-02T10:00:00-03:00"}': "column at: the value does not fit TIMESTAMP",
    orjson.dumps(
        {f"k{n}": n for n in range(20_000)}
    ): "its table would have more than 4,096 columns",
    b'{"id": 1, "price": 0.005}': "column price: the value does not fit DECIMAL(10,2)",
}
WIDE = json.dumps({"id": 4, **{f"key {n}": n for n in range(500)}}).encode()


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
        return answer(self.stack.endpoints().postgres, query)

    def reasons(self, topic: str) -> Counter[str]:
        """The reasons of a table's dead letters."""
        with Ledger(LakePaths(self.lab.config.data_dir)) as ledger:
            return Counter(entry.reason for entry in ledger.dead_letters.of_table(topic))

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of the project."""
        return subprocess.run(
            [sys.executable, "-m", "ducklake.cli", *words, "--config", str(self.lab.config.path)],
            capture_output=True,
            text=True,
            timeout=180,
        )

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


def make(folder: Path, stack: Config, tables: dict[str, Any], feeds: dict[str, Any]) -> Lake:
    files = folder / "drops"
    files.mkdir()
    spec = {"type": "files", "directory": str(files), "tables": tables}
    feed = unique("feed")
    more = {feed: {"type": "kafka", "tables": feeds}} if feeds else {}
    lab = make_lab(folder, stack, spec, more=more)
    topics = [NewTopic(f"{feed}.{table}", 2, 1) for table in feeds]
    client = admin(lab.endpoints)  # kept until its answers are there
    for made in client.create_topics(topics).values() if topics else ():
        made.result(60)
    return Lake(lab, stack, files)


def test_the_good_ones_reach_postgresql(tmp_path: Path, stack_config: Config) -> None:
    good, rows, odd, cases = (unique(name) for name in ("good", "rows", "odd", "cases"))
    feed, stopped, other = unique("feed"), unique("stopped"), unique("other")
    bad = {unique("bad"): name for name in BAD_FILES}
    single = {unique("single"): name for name in ONE_BAD_ROW}
    lake = make(
        tmp_path,
        stack_config,
        {
            **{table: {"file": name, "options": QUICK} for table, name in bad.items()},
            **{
                table: {"file": name, "options": {**QUICK, **ONE_BAD_ROW[name][1]}}
                for table, name in single.items()
            },
            good: {"file": "good.csv", "key": ["id"], "options": QUICK},
            rows: {"file": "rows.csv", "options": QUICK},
            odd: {"file": "odd.csv", "options": QUICK},
            cases: {"file": "cases*.csv", "options": QUICK},
        },
        {
            feed: {"columns": {"at": "TIMESTAMP", "price": "DECIMAL(10,2)"}},
            stopped: {"columns": {"id": "BIGINT"}, "dead_letters": {"policy": "stop"}},
            other: {},
        },
    )
    for name, content in {
        **BAD_FILES,
        **{name: content for name, (content, _, _) in ONE_BAD_ROW.items()},
        "good.csv": GOOD_ROWS,
        "rows.csv": BAD_ROWS,
        "odd.csv": ODD_NAMES,
        "cases1.csv": b"SKU,year,_x\nA,1,2\n",
        "cases2.csv": b"sku,year_,field_x\nB,3,4\n",
    }.items():
        lake.drop(name, content)
    lake.produce()
    [source] = [name for name in lake.lab.config.settings.sources if name != lake.lab.source]
    producer = Producer(lake.lab.endpoints.kafka_client())
    for value in (b'{"id": 1}', *RECORDS, b'{"id": 2}', WIDE, b'{"id": 3}'):
        producer.produce(f"{source}.{feed}", value=value)
    producer.produce(f"{source}.{stopped}", value=b'{"id": "one"}')
    for value in (b'{"id": 1}', b'{"id": "00123"}'):
        producer.produce(f"{source}.{other}", value=value)
    assert producer.flush(60) == 0
    with pytest.raises(DeadLetterLimit, match="is `stop`"):
        lake.consume()
    lake.export()

    assert lake.ask(f"SELECT id, word FROM raw.{good} ORDER BY id") == [
        ("1", "one"),
        ("2", "two"),
        ("3", "three"),
    ]
    assert lake.ask(f"SELECT id FROM raw.{rows} ORDER BY id") == [("1",), ("4",), ("6",)]
    assert sum(lake.reasons(f"{lake.lab.source}.{rows}").values()) == 3
    [row] = lake.ask(f"SELECT * FROM raw.{odd}")
    assert sorted(row[:8]) == list("12345678"), "no value of a column with an odd name is lost"
    told = [sorted(filter(None, row[:6])) for row in lake.ask(f"SELECT * FROM raw.{cases}")]
    assert sorted(told) == [["1", "2", "A"], ["3", "4", "B"]], "no value is lost to another's name"
    assert lake.ask(f"SELECT id FROM raw.{feed} ORDER BY id") == [(1,), (2,), (3,), (4,)]
    assert lake.reasons(f"{source}.{feed}") == Counter(RECORDS.values())
    assert lake.ask(f"SELECT id FROM raw.{other} ORDER BY _offset, _partition DESC") in (
        [("1",), ("00123",)],
        [("00123",), ("1",)],
    )
    for table, name in bad.items():
        found = lake.reasons(f"{lake.lab.source}.{table}")
        assert found.total() == 1, f"{name} is one dead letter: {found}"
        assert name in "".join(found)
    for table, name in single.items():
        ids = lake.ask(f"SELECT id::text FROM raw.{table} ORDER BY 1")
        assert ids == [("1",), ("2",)], name
        [reason] = lake.reasons(f"{lake.lab.source}.{table}").elements()
        assert ONE_BAD_ROW[name][2] in reason, name
    compacted = lake.run("compact", "--now")
    assert compacted.returncode == 0, compacted.stderr
    exact = [f"{lake.lab.source}.{table}" for table in (good, rows, odd, cases)]
    verified = lake.run("verify", *exact, f"{source}.{feed}", f"{source}.{other}")
    assert verified.returncode == 0, verified.stdout + verified.stderr


ANSWERS: dict[str, Any] = {
    "null": b"null",
    "message": {"message": "try again later"},
    "page": b"<html>down</html>",
    "cut": b'[{"id": 1}, {"id"',
    "empty": b"",
}


def test_good_tables_of_apis_and_of_dlt_reach_postgresql(
    tmp_path: Path, stack_config: Config
) -> None:
    good, rows, strict = unique("good"), unique("rows"), unique("strict")
    wrong = {unique("bad"): name for name in ANSWERS}
    erp, fine, broken = unique("erp"), unique("fine"), unique("broken")
    with serving() as server:
        lines = tmp_path / "lines.jsonl"
        lines.write_bytes(b'{"id": 1, "at": 1}\n{"id": 2, "at": 2}\n')
        for name, content in ANSWERS.items():
            server.say(f"/{name}", content)
        server.say("/good", [{"id": 1}, {"id": 2}])
        server.say("/rows", [{"id": 1}, 7, {"x": 1}, {"id": 2, "id2": "\u0007"}])
        server.say("/strict", [{"id": 1}, None])
        tables = {
            **{table: entry(f"/{name}") for table, name in wrong.items()},
            good: entry("/good"),
            rows: entry("/rows"),
            strict: {**entry("/strict"), "dead_letters": {"policy": "stop"}},
        }
        source = f"{__package__}.killed_sources:lines"
        options = {"source": source, "arguments": {"path": str(lines)}}
        run = {
            "type": "dlt",
            "options": options,
            "tables": {fine: {"options": {"resource": "events"}}, broken: {}},
        }
        spec = {"type": "rest", "tables": tables}
        servers = {"api": {"base_url": server.url}}
        lab = make_lab(tmp_path, stack_config, spec, servers, more={erp: run})
        lake = Lake(lab, stack_config, tmp_path)
        for name in (lab.source, erp):
            runner = SourceRunner(lab.config, lab.endpoints, [name])
            with pytest.raises((SourceError, ServiceUnreachable)):
                runner.run(threading.Event(), once=True)
        lake.consume()
        lake.export()
        both = [("1",), ("2",)]
        for table in (good, rows, fine):
            found = lake.ask(f"SELECT id::text FROM raw.{table} ORDER BY 1")
            assert found == both, table
        assert lake.states(f"{lab.source}.{rows}") == {"dead": 2}
        assert lake.states(f"{lab.source}.{strict}") == {}
        for table, name in wrong.items():
            assert lake.states(f"{lab.source}.{table}") == {"dead": 1}, name

        topic = f"{lab.source}.{rows}"
        server.say("/rows", [{"id": 1}, {"id": 2}, {"id": 3}])
        code, told = lake.redrive(topic)
        assert (code, told["answers"]) == (1, [{"table": topic, "resolved": 0, "waiting": 2}])
        with pytest.raises((SourceError, ServiceUnreachable)):
            lake.produce()
        code, told = lake.redrive(topic)
        assert (code, told["answers"]) == (0, [{"table": topic, "resolved": 2, "waiting": 0}])
        assert lake.states(topic) == {"redriven": 2}
        lake.consume()
        lake.export()
        assert lake.ask(f"SELECT DISTINCT id::text FROM raw.{rows} ORDER BY 1")[-1] == ("3",)


def entry(url: str) -> dict[str, Any]:
    return {"key": ["id"], "options": {"url": url}}


def test_a_bad_file_of_135_mb_makes_neither_process_nor_lake_large(
    tmp_path: Path, stack_config: Config
) -> None:
    """Its first bytes are kept beside the ledger; what is shown of them is shorter still."""
    bad, good = unique("bad"), unique("good")
    tables = {
        bad: {"file": "bad.csv", "options": QUICK},
        good: {"file": "good.csv", "options": QUICK},
    }
    lake = make(tmp_path, stack_config, tables, {})
    with (lake.folder / "bad.csv").open("wb") as file:
        for _ in range(135):
            file.write(b"x" * (1 << 20))
    os.utime(lake.folder / "bad.csv", (SETTLED, SETTLED))
    lake.drop("good.csv", GOOD_ROWS)
    own = ("--once", "--config", str(lake.lab.config.path))
    for command in ("produce", "consume"):
        assert peak_mb(command, *own) < 300, command
    assert lake.states(f"{lake.lab.source}.{bad}") == {"dead": 1}
    paths = LakePaths(lake.lab.config.data_dir)
    database = tmp_path / "lake.duckdb"
    with Ledger(paths) as ledger, opened(database) as connection:
        connection.execute("CREATE SCHEMA raw")
        refresh_dead_letters(connection, ledger, ledger.commits.last())
        asked = "SELECT octet_length(value), value_bytes FROM raw.dead_letters"
        mine = f"{asked} WHERE source_table = ?"  # the topic of rejects is that of all tests
        found = connection.execute(mine, [f"{lake.lab.source}.{bad}"]).fetchall()
        assert found == [(SHOWN_BYTES, 1 << 20)]
    megabytes = {path: path.stat().st_size / (1 << 20) for path in (paths.ledger, database)}
    assert all(size < 2 for size in megabytes.values()), megabytes
    # A tenth of the file and no more: one mebibyte of it, and what other tests left in that topic.
    assert 1 <= paths.dead_letters.stat().st_size / (1 << 20) < 13
    lake.export()
    assert len(lake.ask(f"SELECT id FROM raw.{good}")) == 3


def peak_mb(*words: str) -> float:
    """The most memory that a command of the project holds; it has to succeed."""
    command = [sys.executable, "-m", "ducklake.cli", *words]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except FileNotFoundError:
            break
        if "VmHWM:" in status:  # which never falls
            peak = int(status.partition("VmHWM:")[2].split()[0])
        time.sleep(0.02)
    assert process.wait(PATIENCE) == 0, words
    return peak / 1024


def test_other_tables_do_not_wait_behind_a_very_wide_one(
    tmp_path: Path, stack_config: Config
) -> None:
    wide, good = unique("wide"), unique("good")
    # A row of so many columns fits in no page of PostgreSQL.
    feeds = {wide: {"export": {"raw": "off"}}, good: {}}
    lake = make(tmp_path, stack_config, {}, feeds)
    [source] = [name for name in lake.lab.config.settings.sources if name != lake.lab.source]
    producer = Producer({**lake.lab.endpoints.kafka_client(), "message.max.bytes": 8_000_000})
    keys = {f"key {n}": n for n in range(2_000)}
    far_too_wide = orjson.dumps({f"k{n}": n for n in range(100_000)})
    for number in range(160):  # 6 MB, which take seconds
        value = far_too_wide if number == 7 else orjson.dumps({"id": number, **keys})
        producer.produce(f"{source}.{wide}", value=value, partition=0)
        if number == 9:
            producer.produce(f"{source}.{good}", value=b'{"id": 1}', partition=0)
            assert producer.flush(60) == 0
    assert producer.flush(60) == 0
    lake.consume()
    with Ledger(LakePaths(lake.lab.config.data_dir)) as ledger:
        rows = ledger._core.db.execute("SELECT topic, commit_no FROM commits WHERE records > 0")
        commits: dict[str, list[int]] = {}
        for topic, number in rows.fetchall():
            commits.setdefault(topic, []).append(number)
    assert len(commits[f"{source}.{wide}"]) >= 2, "each commit takes no more than some seconds"
    assert max(commits[f"{source}.{good}"]) < max(commits[f"{source}.{wide}"])
    lake.export()
    assert lake.ask(f"SELECT id FROM raw.{good}") == [(1,)]
    too_wide = "its table would have more than 4,096 columns"
    assert lake.reasons(f"{source}.{wide}") == Counter({too_wide: 1})


def test_what_was_rejected_of_a_file_comes_back_once_its_options_are_mended(
    tmp_path: Path, stack_config: Config
) -> None:
    table = unique("stock")
    lake = make(tmp_path, stack_config, {table: {"file": "stock*.csv", "options": QUICK}}, {})
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
    lake = make(tmp_path, stack_config, tables, {})
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
        {},
    )
    lake.drop("s.csv", b"id,word\n1\n")
    lake.drop("good.csv", GOOD_ROWS)
    with pytest.raises(SourceError, match=r"s\.csv, row 1 \(line 2\): it has 1 fields"):
        lake.produce()
    assert len(lake.lab.rows(good)) == 3 and lake.lab.rows(strict) == lake.lab.rejects() == []
    lake.drop("s.csv", b"id,word\n1,one\n", at=SETTLED + 1)
    lake.produce()
    assert len(lake.lab.rows(strict)) == 1


def told(topic: str, **counts: int) -> dict[str, Any]:
    none = dict.fromkeys(("resolved", "waiting", "gone", "appended"), 0)
    return {"table": topic, **none, **counts}
