"""`type: rest` on the real services: killed anywhere, each row is in Kafka once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ducklake.cli.app import app
from lake.config import Config
from tests.integration.producers_lab import Lab, make_lab, poll
from tests.unit.rest_lab import Asked, Reply, Server, serving, table

pytestmark = pytest.mark.stack
KILLS = (
    "producer.after_begin",
    "producer.after_rows",
    "producer.after_flush",
    "producer.after_commit",
)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


def lab_of(folder: Path, stack: Config, server: Server, tables: dict[str, Any]) -> Lab:
    servers = {"api": {"base_url": server.url}}
    return make_lab(folder, stack, {"type": "rest", "tables": tables}, servers)


def ids(lab: Lab, name: str) -> list[int]:
    return sorted(seen.row["id"] for seen in lab.rows(name))


def test_killed_anywhere_each_row_and_its_cursor_are_there_once(
    tmp_path: Path, stack_config: Config, server: Server
) -> None:
    events = [{"id": n, "at": f"2026-01-{n // 10 + 1:02d}"} for n in range(40)]

    def since(asked: Asked) -> Reply:
        page = int(asked.query["page"])
        found = [row for row in events if row["at"] >= asked.query.get("since", "")]  # type: ignore[operator]
        return Reply(found[15 * page : 15 * page + 15])

    server.says["/events"] = since
    server.say("/things", [{"id": n} for n in range(30)], ETag='"one"')
    tables = {
        "events": table(
            "/events",
            paging={"type": "page", "start": 0},
            incremental={"parameter": "since", "cursor": "at", "start": "2026-01-01"},
        ),
        "things": table("/things"),
    }
    lab = lab_of(tmp_path, stack_config, server, tables)
    for number, failpoint in enumerate(KILLS):
        assert lab.produce_once(failpoint).returncode != 0
        events.append({"id": 40 + number, "at": f"2026-01-{5 + number:02d}"})
    done = lab.produce_once()
    assert done.returncode == 0, done.stderr
    assert ids(lab, "events") == list(range(44))
    assert ids(lab, "things") == list(range(30))
    assert lab.produce_once().returncode == 0
    assert ids(lab, "events") == list(range(44))
    assert ids(lab, "things") == list(range(30))
    assert lab.rejects() == []


def test_a_backfill_is_requested_by_command_and_carried_out_once(
    tmp_path: Path, stack_config: Config, server: Server
) -> None:
    server.say("/things", [{"id": n, "day": f"2026-0{n}-01"} for n in range(1, 7)])
    lab = lab_of(
        tmp_path,
        stack_config,
        server,
        {"things": table("/things", date_column="day"), "plain": table("/things")},
    )
    source, writer = lab.connector(), lab.writer()
    poll(source, writer)

    def backfill(name: str, *words: str) -> Any:
        own = ("--config", str(lab.config.path), "--json")
        return CliRunner().invoke(app, ["backfill", f"{lab.source}.{name}", *words, *own])

    result = backfill("things", "--from", "2026-02-01", "--to", "2026-03-31")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["from"] == "2026-02-01"
    assert poll(source, writer) == 2
    assert poll(source, writer) == 0
    for words, said in [
        (("plain", "--from", "2026-02-01"), "Set `date_column`"),
        (("things", "--from", "2026-02-01", "--to", "2026-01-01"), "Exchange them"),
        (("things", "--where", "1=1"), "it has no --where"),
        (("thinks",), "did you mean 'things'"),
    ]:
        refused = backfill(*words)
        assert refused.exit_code != 0
        assert said in refused.output + str(refused.exception)
    source.close()


def test_a_pass_over_a_table_that_fails_says_so_and_reads_the_others(
    tmp_path: Path, stack_config: Config, server: Server
) -> None:
    server.say("/good", [{"id": 1}])
    server.say("/bad", b"", 403)
    lab = lab_of(tmp_path, stack_config, server, {"bad": table("/bad"), "good": table("/good")})
    done = lab.produce_once()
    assert done.returncode != 0
    assert "status 403" in done.stderr
    assert ids(lab, "good") == [1]
