"""docs/REPLAY.md is followed word for word; what it mends reaches PostgreSQL, as if nothing was."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from psycopg2 import sql

from lake.config import Config
from tests.integration.handbook import Handbook, make_handbook

pytestmark = pytest.mark.stack
PAGE = "docs/REPLAY.md"
NAME = "replays"
DUCKLAKE = ".venv/bin/ducklake"
VISITS = 10

Sums = dict[str, tuple[int, str]]


@pytest.fixture(scope="module")
def lake(stack_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Handbook:
    """A lake with the demo's data in a database of its own."""
    made = make_handbook(stack_config, tmp_path_factory.mktemp("replays"), NAME, NAME)
    made.run(f"{DUCKLAKE} produce --once --config '{stack_config.path}'")
    made.run(f"{DUCKLAKE} consume --once && {DUCKLAKE} batch --once")
    return made


def sums(config: Config) -> Sums:
    """Rows and an order-free checksum of every exported relation, asked of PostgreSQL."""
    at = config.endpoints().postgres
    database = psycopg2.connect(
        host=at.host, port=at.port, user=at.user, password=at.password, dbname=NAME
    )
    found: Sums = {}
    try:
        with database, database.cursor() as cursor:
            cursor.execute("SET TimeZone = 'UTC'; SELECT relation FROM ducklake.exports")
            for (relation,) in cursor.fetchall():
                schema, _, table = relation.partition(".")
                cursor.execute(
                    "SELECT column_name FROM information_schema.columns"
                    " WHERE table_schema = %s AND table_name = %s ORDER BY 1",
                    (schema, table),
                )
                columns = [sql.Identifier(name) for (name,) in cursor.fetchall()]
                cursor.execute(
                    sql.SQL(
                        "SELECT count(*), sum(hashtextextended(ROW({})::text, 0))::text FROM {}"
                    ).format(sql.SQL(", ").join(columns), sql.Identifier(schema, table))
                )
                row = cursor.fetchone()
                assert row is not None
                found[relation] = (int(row[0]), str(row[1]))
    finally:
        database.close()
    assert len(found) > 25
    return found


def lose_files(lake: Handbook, table: str) -> list[Path]:
    """As a disk does: the largest public file is gone, a byte of the next one is another one."""
    files = sorted(
        (lake.folder / "data" / "raw" / table).rglob("*.parquet"),
        key=lambda path: -path.stat().st_size,
    )
    files[0].unlink()
    if len(files) > 1:
        content = bytearray(files[1].read_bytes())
        content[len(content) // 2] ^= 0xFF
        files[1].write_bytes(content)
    return files[:2]


def test_a_day_that_was_lost_comes_back_through_all_layers(
    lake: Handbook, stack_config: Config, tmp_path_factory: pytest.TempPathFactory
) -> None:
    today = datetime.now(UTC).date()
    # Late in the evening the records may be of yesterday, and early in the morning of today.
    days = {"2026-11-23": f"{today - timedelta(days=1)}", "2026-11-24": f"{today + timedelta(1)}"}
    healthy = sums(stack_config)
    lost = lose_files(lake, "mysql/orders")
    text = "".join(lake.follow(PAGE, "A day looks wrong", days))
    for path in lost:
        name = path.relative_to(lake.folder / "data")
        assert text.count(f"{name} is missing or damaged") == 2, text
        assert text.count(f"{name} is missing or damaged; written again") == 1, text
    assert text.count("exact") >= 2  # the replay's own, and verify's
    assert sums(stack_config) == healthy
    # And a gap in the ledger's own knowledge: rows that no file has, and no range covers.
    items = lake.folder / "data" / "raw" / "mysql" / "order_items"
    [*_, victim] = sorted(items.rglob("*.parquet"))
    victim.unlink()
    for part in (lake.folder / "data").glob("ledger.db*"):
        part.unlink()
    lake.run(f"{DUCKLAKE} ledger rebuild --yes && {DUCKLAKE} consume --once")
    lake.run(f"{DUCKLAKE} replay && {DUCKLAKE} verify && {DUCKLAKE} batch --once")
    assert sums(stack_config) == healthy
    # A lake built from nothing, from the same topics, has the same figures.
    anew = make_handbook(stack_config, tmp_path_factory.mktemp("anew"), "anew", NAME)
    anew.run(f"{DUCKLAKE} consume --once && {DUCKLAKE} batch --once")
    assert sums(stack_config) == healthy
    lake.run(f"{DUCKLAKE} batch --once")


def test_a_decoder_that_was_wrong(lake: Handbook, stack_config: Config) -> None:
    before = sums(stack_config)
    rebuilt, removed = lake.follow(PAGE, "A decoder was wrong")
    assert "current" in rebuilt and "old" in rebuilt
    assert "generation 0 is gone" in removed
    tree = lake.folder / "data" / "generations" / "1" / "sftp" / "sales_targets"
    assert any(tree.rglob("*.parquet"))
    assert not (lake.folder / "data" / "raw" / "sftp" / "sales_targets").exists()
    [(type_,)] = lake.lake("SELECT DISTINCT typeof(target_units) FROM raw.sales_targets")
    assert type_ == "BIGINT"
    after = sums(stack_config)
    assert {r for r in before if after[r] != before[r]} == set()
    lake.run(f"{DUCKLAKE} verify sftp.sales_targets")


def test_a_new_table_from_an_old_topic_whose_retention_was_too_short(
    lake: Handbook, stack_config: Config
) -> None:
    kafka = {**stack_config.endpoints().kafka_client(), "log_level": 0}
    admin = AdminClient(kafka)
    admin.create_topics([NewTopic("legacy.visits", 1, 1)])["legacy.visits"].result(30)
    send(kafka, 0)
    printed = "".join(lake.follow(PAGE, "A new table from old topics"))
    assert "exact" in printed, printed
    send(kafka, VISITS)
    end = TopicPartition("legacy.visits", 0, VISITS + VISITS // 2)
    for future in admin.delete_records([end]).values():
        future.result(30)
    with pytest.raises(AssertionError, match="removed by retention"):
        lake.run(f"{DUCKLAKE} consume --once")
    printed = "".join(lake.follow(PAGE, "Kafka's retention was too short"))
    assert f"offsets {VISITS} to {VISITS + VISITS // 2 - 1} lost" in printed
    reused = [line for line in printed.splitlines() if "reused" in line]
    assert reused and reused[0].split()[-1] == str(VISITS)
    lake.run(f"{DUCKLAKE} verify legacy.visits && {DUCKLAKE} batch --once")
    assert lake.lake("SELECT count(*) FROM raw.visits") == [(VISITS + VISITS // 2,)]


def send(kafka: dict[str, Any], first: int) -> None:
    producer = Producer({**kafka, "enable.idempotence": True})
    for number in range(first, first + VISITS):
        value = json.dumps({"visit_id": number, "page": f"/{number}"})
        producer.produce("legacy.visits", value.encode(), str(number), partition=0)
    assert producer.flush(30) == 0


def test_a_machine_that_is_lost(lake: Handbook, stack_config: Config) -> None:
    before = sums(stack_config)
    data = lake.folder / "data"
    moved = data.with_name("old machine")

    def lose_the_machine() -> None:
        data.rename(moved)
        for tree in ("hot", "raw", "generations"):
            if (moved / tree).exists():
                shutil.copytree(moved / tree, data / tree)

    blocks = lake.blocks(PAGE, "A machine is lost")
    lake.run(blocks[0])
    lose_the_machine()
    lake.run(blocks[1])
    lake.run(f"{DUCKLAKE} verify && {DUCKLAKE} batch --once")
    assert sums(stack_config) == before
    for part in data.glob("ledger.db*"):
        part.unlink()
    with pytest.raises(AssertionError, match="ledger rebuild"):
        lake.run(f"{DUCKLAKE} consume --once")
    assert "exact" in lake.run(blocks[2])
    lake.run(f"{DUCKLAKE} batch --once")
    assert sums(stack_config) == before


def test_a_lake_moves_to_an_empty_folder(lake: Handbook, stack_config: Config) -> None:
    """As docs/OPERATIONS.md says it, on what the other tests have left."""
    before = sums(stack_config)
    there = lake.folder.with_name("another machine")
    lake.run(f"cp --archive . '{there}'")
    shutil.move(lake.folder, lake.folder.with_name("gone"))
    moved = Handbook(there, {**lake.environment, "PYTHONPATH": str(there)})
    [commands] = moved.blocks("docs/OPERATIONS.md", "Move to another machine")
    said = moved.run(commands.replace("ducklake ", f"{DUCKLAKE} "))
    assert "exact" in said
    assert moved.lake("SELECT count(*) > 0 FROM raw.orders") == [(True,)]
    moved.run(f"{DUCKLAKE} gc --older-than 0 --yes")
    assert not [each for each in (there / "data" / "orphans").rglob("*") if each.is_file()]
    assert "exact" in moved.run(f"{DUCKLAKE} verify")
    assert sums(stack_config) == before
