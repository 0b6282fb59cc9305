"""`type: dlt`: rows and dlt's state together, killed in between, with its REST source."""

from __future__ import annotations

import gc
import random
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import dlt
import orjson
import pytest
import yaml

from ducklake.cli.redriven_answers import is_carried_out
from lake.config import load_config
from lake.errors import ConfigError, ServiceUnreachable
from lake.records import Record
from producers.dlt_sources.values import plain, rows_of
from producers.registry import check_sources, connector
from producers.rest.requests import request_backfill
from tests.unit.rest_lab import ENDPOINTS, Asked, Reply, Server, serving

ROWS: list[dict[str, Any]] = []
FAIL: list[Exception] = []


@dlt.resource(primary_key="id")  # type: ignore[untyped-decorator]
def events(since: Any = dlt.sources.incremental("at", initial_value=0)) -> Iterator[Any]:
    """Rows since a moment, in pages."""
    found = [row for row in ROWS if row["at"] >= since.last_value]
    for first in range(0, len(found), 7):
        yield found[first : first + 7]
        if FAIL:
            raise FAIL[0]


@dlt.resource(write_disposition="replace")  # type: ignore[untyped-decorator]
def everything() -> Iterator[Any]:
    """All rows, each time."""
    yield from ROWS


@dlt.source  # type: ignore[untyped-decorator]
def shop(greeting: str = "") -> Any:
    """Both."""
    return events, everything


# The sessions of dlt's own REST source are closed by the garbage collection.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    ROWS.clear()
    FAIL.clear()


class Lab:
    """A source of type `dlt`, and the cursors that its batches leave behind."""

    def __init__(self, folder: Path, tables: dict[str, Any], **options: Any) -> None:
        options = {"source": f"{__name__}:shop", **options}
        source = {"type": "dlt", "options": options, "tables": tables}
        path = folder / "ducklake.yml"
        path.write_text(yaml.safe_dump({"name": "lab", "sources": {"d": source}}, sort_keys=False))
        self.config = load_config(path)
        self.cursors: dict[str, Any] = {}
        self.rows: list[Record] = []
        self.rejects: list[bytes] = []
        self.restart()

    def restart(self) -> None:
        self.source = connector(self.config, ENDPOINTS, "d")

    def poll(self, batches: int | None = None) -> list[dict[str, Any]]:
        before = len(self.rows)
        found = self.source.poll(self.cursors)
        for number, batch in enumerate(found, 1):
            self.rows += batch.records
            self.rejects += [reject.payload for reject in batch.rejects]
            self.cursors[batch.key] = orjson.loads(orjson.dumps(batch.cursor))
            if number == batches:
                break
        found.close()  # type: ignore[attr-defined]
        return [dict(record.value) for record in self.rows[before:]]


def ids(rows: list[dict[str, Any]]) -> list[int]:
    return [row["id"] for row in rows]


def test_only_what_is_new_by_dlt_s_own_incremental_state(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {"events": {}})
    ROWS.extend({"id": n, "at": n // 2, "inner": [{"x": n}]} for n in range(10))
    assert ids(lab.poll()) == list(range(10))
    assert lab.rows[0].value["inner"] == [{"x": 0}], "nested children stay JSON"
    assert lab.rows[3].key == "[3]", "the primary key is the resource's own"
    assert lab.poll() == []
    lab.restart()
    assert lab.poll() == []
    ROWS.append({"id": 10, "at": 4})
    ROWS.append({"id": 11, "at": 5})
    assert ids(lab.poll()) == [10, 11]


@pytest.mark.parametrize("killed", [False, True])
def test_a_backfill_runs_it_again_from_its_beginning_once(
    tmp_path: Path, killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producers.dlt_sources.connector.BATCH_ROWS", 3)
    lab = Lab(tmp_path, {"events": {}})
    ROWS.extend({"id": n, "at": n} for n in range(10))
    lab.poll()
    asked = request_backfill(lab.config, "d", "events", None, None)
    assert not is_carried_out("events", lab.cursors, asked)
    again: list[dict[str, Any]] = []
    while found := lab.poll(batches=1 if killed else None):
        again += found
        lab.restart()
        if killed:
            for path in (tmp_path / "data" / "run").glob("*.rows"):
                path.unlink()
        if killed and len(again) < 10:
            assert not is_carried_out("events", lab.cursors, asked)
    assert ids(again) == list(range(10))
    assert is_carried_out("events", lab.cursors, asked)
    ROWS.append({"id": 10, "at": 10})
    assert ids(lab.poll()) == [10]


def test_a_resource_that_is_read_in_full_is_sent_when_it_has_changed(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {"all_of_it": {"key": ["id"], "options": {"resource": "everything"}}})
    ROWS.extend({"id": n} for n in range(3))
    assert ids(lab.poll()) == [0, 1, 2]
    assert lab.poll() == []
    ROWS[1]["more"] = 1
    assert ids(lab.poll()) == [0, 1, 2]


@pytest.mark.parametrize("lose_the_file", [False, True])
def test_killed_between_any_two_batches_each_row_arrives_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lose_the_file: bool
) -> None:
    monkeypatch.setattr("producers.dlt_sources.connector.BATCH_ROWS", 4)
    lab = Lab(tmp_path, {"events": {}})
    ROWS.extend({"id": n, "at": n // 3} for n in range(40))
    chance = random.Random(2)
    polls = 0
    while lab.poll(batches=chance.choice([1, 2])):
        lab.restart()
        polls += 1
        assert polls < 100, "it never ends"
        if lose_the_file:
            for path in (tmp_path / "data" / "run").glob("*.rows"):
                path.unlink()
        elif polls == 3:
            ROWS.extend({"id": n, "at": 20} for n in range(40, 50))
    assert polls > 6
    assert ids([dict(r.value) for r in lab.rows]) == list(range(40 if lose_the_file else 50))
    assert list((tmp_path / "data" / "run").glob("*.rows")) == []


def test_a_resource_that_fails_in_the_middle_sends_nothing_and_stops_no_other(
    tmp_path: Path,
) -> None:
    lab = Lab(tmp_path, {"events": {}, "everything": {"key": ["id"]}})
    ROWS.extend({"id": n, "at": n} for n in range(20))
    FAIL.append(ValueError("juan.perez@example.com"))
    lab.poll()
    assert {record.table for record in lab.rows} == {"everything"}
    [state] = lab.source.table_states()
    assert (state.table, state.state) == ("events", "stopped")
    assert "ValueError" in state.reason
    assert "juan.perez" not in str(state)
    FAIL.clear()
    lab.restart()
    assert ids(lab.poll()) == list(range(20))


CHILDREN = {
    "everything": {"key": ["id"]},
    "everything_tags": {"options": {"child_of": "everything"}},
    "notes": {"options": {"child_of": "everything", "field": "more"}},
}


def test_nested_children_are_tables_killed_between_any_two_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producers.dlt_sources.connector.BATCH_ROWS", 4)
    lab = Lab(tmp_path, CHILDREN)
    cursors = lab.cursors
    monkeypatch.setattr("producers.dlt_sources.connector.committed_cursors", lambda *_: cursors)
    for n in range(20):
        ROWS.append({"id": n, "tags": [{"name": f"t{m}"} for m in range(n % 3)], "more": None})
    ROWS[1]["more"] = {"text": "one"}
    ROWS[2]["more"] = [7, [8], None]
    chance = random.Random(3)
    for _ in range(30):
        lab.poll(batches=chance.choice([1, 2]))
        lab.restart()
    assert lab.source.count() == {"everything": 20, "everything_tags": 19, "notes": 4}

    def of(table: str) -> list[tuple[Any, Any, Any, dict[str, Any]]]:
        about = [(r.provenance, dict(r.value)) for r in lab.rows if r.table == table]
        return [(a["everything_id"], a["row_no"], a["child_no"], v) for a, v in about]

    assert of("everything_tags") == [
        (n, n + 1, m + 1, {"name": f"t{m}"}) for n in range(20) for m in range(n % 3)
    ]
    assert of("notes") == [
        (1, 2, 1, {"text": "one"}),
        (2, 3, 1, {"value": 7}),
        (2, 3, 2, {"value": [8]}),
        (2, 3, 3, {"value": None}),
    ]
    parents = [r for r in lab.rows if r.table == "everything"]
    assert [dict(r.value) for r in parents] == [{"id": n} for n in range(20)]
    assert [r.provenance["row_no"] for r in parents] == list(range(1, 21))
    assert {r.key for r in lab.rows if r.provenance["row_no"] == 3} == {"[2]"}
    assert {key for key in lab.cursors} == {f"{table}:everything" for table in CHILDREN}
    ROWS[2]["tags"] = []
    lab.poll()
    again = [r.provenance["row_no"] for r in lab.rows if r.table == "everything"][20:]
    assert again == list(range(21, 41)), "another version has other numbers"
    assert len(of("everything_tags")) == 19 + 17


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"a": {"options": {"child_of": "evrything"}}}, "no table 'evrything'; did you mean"),
        ({"a": {"options": {"child_of": "a"}}}, "name a table whose rows"),
        ({"a": {"options": {"child_of": "everything"}, "key": ["x"]}}, "the key of its parent"),
        ({"a": {"options": {"child_of": "everything", "resource": "x"}}}, "neither `resource`"),
        ({"a": {"options": {"field": "x"}}}, "it needs `child_of`"),
        (
            {
                "a": {"options": {"child_of": "everything"}},
                "b": {"options": {"child_of": "a"}},
            },
            "name a table whose rows",
        ),
    ],
)
def test_a_child_table_that_cannot_be_is_named(
    tmp_path: Path, tables: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        Lab(tmp_path, {"everything": {"key": ["id"]}, **tables})


def test_a_missing_package_is_named_with_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("dlt", "sqlalchemy"):
        (tmp_path / f"needs_{package}.py").write_text(f"import {package}.nothing_of_it\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        lab = Lab(tmp_path, {"events": {}}, source=f"needs_{package}:thing")
        monkeypatch.setitem(sys.modules, package, None)
        lab.poll()
        [state] = lab.source.table_states()
        assert f"need the Python package {package}" in state.reason
        assert "'.[dlt]'" in state.remedy
        monkeypatch.undo()


def test_a_row_that_json_cannot_hold_or_that_has_no_key_costs_itself(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {"everything": {"key": ["id"]}})
    ROWS.extend([{"id": 1}, {"id": "\ud800"}, {"x": 1}, {"id": 2}])
    assert ids(lab.poll()) == [1, 2]
    assert len(lab.rejects) == 2


@pytest.mark.parametrize(
    ("tables", "options", "said"),
    [
        ({"evnts": {}}, {}, "no resource 'evnts'; did you mean 'events'?"),
        ({"events": {}}, {"source": "nowhere:thing"}, "no module 'nowhere'"),
        ({"events": {}}, {"source": f"{__name__}:nothing"}, "cannot be loaded (AttributeError)"),
        ({"events": {}}, {"arguments": {"wrong": 1}}, "TypeError"),
        ({"events": {}}, {"source": "pathlib:Path"}, "no source of dlt"),
    ],
)
def test_a_source_that_is_none_is_named(
    tmp_path: Path, tables: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    lab = Lab(tmp_path, tables, **options)
    assert lab.poll() == []
    [state] = lab.source.table_states()
    assert state.state == "stopped"
    assert said in state.reason


def test_secrets_and_misspelled_options_are_found_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a secret in plain text"):
        Lab(tmp_path, {"events": {}}, arguments={"password": "hunter2"})
    with pytest.raises(ConfigError, match="argumnts: unknown key; did you mean 'arguments'"):
        check_sources(Lab(tmp_path, {"events": {}}, argumnts={}).config)


def test_values_of_python_are_rows_of_json() -> None:
    row = {
        "d": date(2026, 1, 2),
        "t": datetime(2026, 1, 2, tzinfo=UTC),
        "n": Decimal("12345678901234567890.10"),
        "i": 2**64,
        "b": b"\x00\xff",
        "f": float("nan"),
        "l": [{"x": (1, 2)}],
    }
    assert plain(row) == {
        "d": "2026-01-02",
        "t": "2026-01-02T00:00:00+00:00",
        "n": "12345678901234567890.10",
        "i": "18446744073709551616",
        "b": "AP8=",
        "f": None,
        "l": [{"x": [1, 2]}],
    }
    with pytest.raises(TypeError):
        list(rows_of("text"))


# dlt's own REST source ---------------------------------------------------------------------------


@dlt.source  # type: ignore[untyped-decorator]
def crm(url: str, token: str) -> Any:
    """Tickets of a service, by dlt's declarative REST source."""
    from dlt.sources.rest_api import rest_api_resources

    yield from rest_api_resources(
        {
            "client": {"base_url": url, "auth": {"type": "bearer", "token": token}},
            "resources": [
                {
                    "name": "tickets",
                    "primary_key": "id",
                    "endpoint": {
                        "path": "tickets",
                        "data_selector": "data",
                        "paginator": {"type": "json_link", "next_url_path": "next"},
                        "incremental": {
                            "cursor_path": "at",
                            "start_param": "since",
                            "initial_value": "2026-01-01",
                        },
                    },
                }
            ],
        }
    )


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


def test_dlt_s_own_rest_source_with_its_pages_and_its_state(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"id": n, "at": f"2026-01-{n + 2:02d}", "tags": [{"n": n}]} for n in range(5)]

    def tickets(asked: Asked) -> Reply:
        found = [row for row in rows if row["at"] >= asked.query["since"]]  # type: ignore[operator]
        first = int(asked.query.get("first", "0"))
        more = f"{server.url}/tickets?since={asked.query['since']}&first={first + 2}"
        page: dict[str, Any] = {"data": found[first : first + 2]}
        page |= {"next": more} if first + 2 < len(found) else {}
        return Reply(page, headers={"Connection": "close"})  # dlt's session is never closed

    server.says["/tickets"] = tickets
    monkeypatch.setenv("CRM_TOKEN", "hunter2hunter2")
    lab = Lab(
        tmp_path,
        {"tickets": {}},
        source=f"{__name__}:crm",
        arguments={"url": server.url, "token": "${CRM_TOKEN}"},
    )
    assert ids(lab.poll()) == [0, 1, 2, 3, 4]
    assert lab.rows[0].value["tags"] == [{"n": 0}]
    assert server.asked[0].headers["authorization"] == "Bearer hunter2hunter2"
    lab.restart()
    server.asked.clear()
    assert lab.poll() == []
    assert server.asked[0].query["since"] == "2026-01-06"
    rows.append({"id": 5, "at": "2026-01-09", "tags": []})
    assert ids(lab.poll()) == [5]
    server.say("/tickets", b"hunter2hunter2", 403, Connection="close")
    lab.poll()
    [state] = lab.source.table_states()
    assert (state.state, "HTTPError (status 403)" in state.reason) == ("stopped", True)
    assert "hunter2" not in str(state) + str(lab.cursors)


def test_a_server_that_is_gone_is_retried(tmp_path: Path) -> None:
    ROWS.append({"id": 1, "at": 1})
    FAIL.append(ConnectionRefusedError(111))
    lab = Lab(tmp_path, {"events": {}})
    with pytest.raises(ServiceUnreachable, match="ConnectionRefusedError"):
        lab.poll()
