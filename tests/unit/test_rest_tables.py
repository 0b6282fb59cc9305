"""`type: rest`: pages, what is new, history by ranges, and backfills, killed in between."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from ducklake.cli.redriven_answers import is_carried_out
from lake.errors import ConfigError, ServiceUnreachable
from producers.frames import exact_frame, frame_rows
from producers.http.answers import json_items
from producers.registry import check_sources, server_problems
from producers.reject_limits import RejectLimits
from producers.rest.links import next_link
from producers.rest.order import before, order_of
from producers.rest.requests import request_backfill
from producers.rest.units import units_of
from tests.unit.rest_lab import Asked, Reply, RestLab, Server, serving, table

TODAY = datetime.now(UTC).date()


@dataclass(frozen=True)
class Raw:
    """A JSON value that Python would write in another way."""

    text: str


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


def of(tmp_path: Path, server: Server, **options: Any) -> RestLab:
    return RestLab(tmp_path, server.url, {"things": table("/things", **options)})


def ids(rows: list[dict[str, Any]]) -> list[Any]:
    return [row["id"] for row in rows]


# Pages -------------------------------------------------------------------------------------------

PAGES = [[{"id": 1}, {"id": 2}], [{"id": 3}], []]


def numbered(asked: Asked) -> Reply:
    return Reply({"data": PAGES[int(asked.query["p"]) - 1], "of": 2})


def by_offset(asked: Asked) -> Reply:
    everything = [row for page in PAGES for row in page]
    first, size = int(asked.query["skip"]), int(asked.query["take"])
    return Reply({"data": everything[first : first + min(size, 2)]})  # fewer than was asked for


def by_cursor(asked: Asked) -> Reply:
    page = int(asked.query.get("after", "0"))
    return Reply({"data": PAGES[page], "meta": {"next": page + 1 if page < 2 else None}})


def by_posted_cursor(asked: Asked) -> Reply:
    page = int(orjson.loads(asked.body).get("after", "0"))
    return Reply({"data": PAGES[page], "meta": {"next": str(page + 1) if page < 2 else ""}})


def by_link(asked: Asked) -> Reply:
    page = int(asked.query.get("x", "0"))
    link = f'</things?x=9>; rel="last", </things?x={page + 1}>; title="a, b"; rel="next"'
    return Reply({"data": PAGES[page]}, headers={"Link": link} if page < 2 else {})


def by_url(asked: Asked) -> Reply:
    page = int(asked.query.get("x", "0"))
    return Reply({"data": PAGES[page], "next": f"/things?x={page + 1}" if page < 2 else None})


@pytest.mark.parametrize(
    ("answers", "options", "requests"),
    [
        (numbered, {"paging": {"type": "page", "parameter": "p"}}, 3),
        (numbered, {"paging": {"type": "page", "parameter": "p", "pages": "of"}}, 2),
        (
            by_offset,
            {
                "paging": {
                    "type": "offset",
                    "parameter": "skip",
                    "size_parameter": "take",
                    "size": 100,
                }
            },
            3,
        ),
        (by_cursor, {"paging": {"type": "cursor", "parameter": "after", "next": "meta.next"}}, 3),
        (
            by_posted_cursor,
            {
                "method": "POST",
                "body": {"filter": {"open": True}},
                "paging": {
                    "type": "cursor",
                    "parameter": "after",
                    "next": "meta.next",
                    "place": "body",
                },
            },
            3,
        ),
        (by_link, {"paging": {"type": "link_header"}}, 3),
        (by_url, {"paging": {"type": "next_url", "next": "next"}}, 3),
    ],
    ids=["page", "pages", "offset", "cursor", "posted cursor", "link header", "next URL"],
)
def test_all_pages_are_read(
    tmp_path: Path, server: Server, answers: Any, options: dict[str, Any], requests: int
) -> None:
    server.says["/things"] = answers
    made = of(tmp_path, server, records="data", **options)
    assert ids(made.poll()) == [1, 2, 3]
    assert len(server.asked) == requests
    assert [record.provenance["page"] for record in made.rows] == [1, 1, 2]
    assert made.poll() == []


def test_pages_that_changed_between_two_polls_are_sent_again(
    tmp_path: Path, server: Server
) -> None:
    pages = {1: [{"id": 1}], 2: [{"id": 2}]}
    server.says["/things"] = lambda asked: Reply(pages.get(int(asked.query["page"]), []))
    made = of(tmp_path, server, paging={"type": "page"})
    assert ids(made.poll()) == [1, 2]
    pages[2] = [{"id": 2, "more": 1}]
    assert made.poll() == [{"id": 1}, {"id": 2, "more": 1}]


@pytest.mark.parametrize(
    ("reply", "paging", "said"),
    [
        (
            {"data": [{"id": 1}], "next": "x"},
            {"type": "cursor", "next": "next"},
            "the next page is one that was read already: a loop",
        ),
        ({"data": [{"id": 1}], "next": "/things"}, {"type": "next_url", "next": "next"}, "a loop"),
        ({"data": [{"id": 1}]}, {"type": "page"}, "two pages in a row are the same"),
        (
            {"data": [{"id": 1}], "next": {"a": 1}},
            {"type": "cursor", "next": "next"},
            "should name the next page is no text",
        ),
    ],
)
def test_pages_that_do_not_end_stop_the_table_by_name(
    tmp_path: Path, server: Server, reply: Any, paging: dict[str, Any], said: str
) -> None:
    server.say("/things", reply)
    made = of(tmp_path, server, records="data", paging=paging)
    assert made.poll() == []
    state, reason = made.states()["things"]
    assert state == "stopped"
    assert said in reason


def test_pages_without_end_and_pages_that_are_gone_are_named(
    tmp_path: Path, server: Server
) -> None:
    server.says["/things"] = lambda asked: Reply([{"id": int(asked.query["page"])}])
    made = of(tmp_path, server, paging={"type": "page", "max_pages": 5})
    assert made.poll() == []
    assert "more than 5 pages" in made.states()["things"][1]
    server.says["/things"] = lambda asked: Reply(
        [{"id": 1}], 200 if asked.query["page"] == "1" else 404
    )
    made.restart()
    assert made.poll() == []
    assert "page 2 answers 404" in made.states()["things"][1]


def test_pages_that_differ_in_all_but_their_records_are_a_loop(
    tmp_path: Path, server: Server
) -> None:
    """An API that does not know the parameter, and tells the time in each answer."""
    server.says["/things"] = lambda asked: Reply(
        {"at": len(server.asked), "next": str(len(server.asked)), "data": [{"id": 1}]}
    )
    for paging in ({"type": "page"}, {"type": "cursor", "next": "next"}):
        server.asked.clear()
        made = of(tmp_path, server, records="data", paging=paging)
        assert made.poll() == []
        assert "pages in a row are the same" in made.states()["things"][1]
        assert len(server.asked) <= 3
    empty = [{"data": [], "next": str(n)} for n in range(5)] + [{"data": [{"id": 1}], "next": None}]
    server.says["/things"] = lambda asked: Reply(empty[int(asked.query.get("cursor", -1)) + 1])
    made = of(tmp_path, server, records="data", paging={"type": "cursor", "next": "next"})
    assert ids(made.poll()) == [1], "pages without records are none that repeat"


@pytest.mark.parametrize(
    ("answer", "paging", "said"),
    [
        ({"next": "x"}, {"type": "cursor", "next": "nxt"}, "no nxt, which `paging.next` names"),
        ({"next": "/x"}, {"type": "next_url", "next": "meta.next"}, "has no meta.next"),
        ({"meta": {"nexT": "x"}}, {"type": "cursor", "next": "meta.next"}, "has no meta.next"),
        ({"pages": 2}, {"type": "page", "pages": "page"}, "no page, which `paging.pages` names"),
        ({"pages": "two"}, {"type": "page", "pages": "pages"}, "no whole number at pages"),
        ({"pages": {"n": 2}}, {"type": "page", "pages": "pages"}, "no whole number at pages"),
        ({"pages": True}, {"type": "page", "pages": "pages"}, "no whole number at pages"),
        ({"pages": 2.5}, {"type": "page", "pages": "pages"}, "no whole number at pages"),
        ({"next": "http://[::1"}, {"type": "next_url", "next": "next"}, "is no address"),
    ],
)
def test_a_path_of_paging_that_leads_nowhere_is_named(
    tmp_path: Path, server: Server, answer: dict[str, Any], paging: dict[str, Any], said: str
) -> None:
    """A misspelled one would read the first page alone, and all would look well."""
    server.say("/things", {"data": [{"id": 1}], **answer})
    made = of(tmp_path, server, records="data", paging=paging)
    assert made.poll() == []
    state, reason = made.states()["things"]
    assert state == "stopped" and said in reason


@pytest.mark.parametrize(
    ("answer", "more"),
    [
        ({"meta": {"next": None}}, {}),
        ({"meta": {"next": ""}}, {}),
        ({"meta": None}, {}),
        ({}, {"next_is_optional": True}),
        ({"meta": {}}, {"next_is_optional": True}),
    ],
)
def test_an_only_page_says_that_it_is_the_last(
    tmp_path: Path, server: Server, answer: dict[str, Any], more: dict[str, Any]
) -> None:
    server.say("/things", {"data": [{"id": 1}], **answer})
    paging = {"type": "cursor", "next": "meta.next", **more}
    made = of(tmp_path, server, records="data", paging=paging)
    assert ids(made.poll()) == [1]
    assert made.states() == {}
    server.say("/things", {"data": []})
    made.restart()
    assert made.poll() == [] and made.states() == {}, "nothing can be missing where nothing came"


def test_a_full_page_without_a_link_header_is_warned_of(tmp_path: Path, server: Server) -> None:
    server.say("/things", [{"id": 1}, {"id": 2}])
    for size, warnings in ((2, 1), (100, 0)):
        made = of(tmp_path, server, paging={"type": "link_header"}, params={"per_page": size})
        with capture_logs() as logs:
            assert ids(made.poll()) == [1, 2]
        assert [entry["event"] for entry in logs].count("link_header_missing") == warnings


@pytest.mark.parametrize(
    ("options", "key", "said"),
    [
        ({"incremental": {"cursor": "att", "parameter": "s"}}, ["id"], "att, which `incremental"),
        ({}, ["id", "sucursal"], "none of its 2 records has sucursal, which `key` names"),
        ({}, ["idd"], "it has none of the columns idd"),
    ],
)
def test_a_column_that_no_record_has_stops_its_table_by_name(
    tmp_path: Path, server: Server, options: dict[str, Any], key: list[str], said: str
) -> None:
    """Not each of its good records as a dead letter."""
    server.say("/things", [{"id": 1, "at": 1}, {"id": 2, "at": 2}])
    made = RestLab(tmp_path, server.url, {"things": table("/things", key=key, **options)})
    for _ in range(2):
        with pytest.raises(ServiceUnreachable, match=said):
            made.poll()
        made.restart()
    assert made.rows == [] and len(made.rejects) == 1


def test_links_of_the_header_are_found() -> None:
    assert next_link('<http://a/?p=2>; rel="next", <http://a/?p=9>; rel="last"') == "http://a/?p=2"
    assert next_link("<http://a/?x=1,2>;rel=prev,<http://a/?x=3,4>;rel=next") == "http://a/?x=3,4"
    assert next_link('<b>; rel="prev next"') == "b"
    assert next_link('<b>; rel="nexts"') is None
    assert next_link("") is None
    assert next_link('</x?p=2>; rel="next-archive"') is None
    assert next_link('</x?p=2>; rel="prev"; title="rel=next"') is None
    assert next_link('<?p=2&a=1,2>; title="a,<b>"; rel="next"') == "?p=2&a=1,2"
    assert next_link("<a>; REL=Next") == "a"
    assert next_link('<a>; rel="prev"; rel="next", <b>;anchor="#x";rel="next"') == "b"


# What is new -------------------------------------------------------------------------------------


class Events:
    """An API of events, in no order, that answers those since a moment."""

    def __init__(self, inclusive: bool = True) -> None:
        self.rows: list[dict[str, Any]] = []
        self._inclusive = inclusive

    def __call__(self, asked: Asked) -> Reply:
        since = asked.query.get("since", "")
        found = [
            row
            for row in self.rows
            if row["at"] > since or (self._inclusive and row["at"] == since)
        ]
        random.Random(len(found)).shuffle(found)
        return Reply(found)

    def add(self, *rows: tuple[int, str]) -> None:
        self.rows += [{"id": number, "at": at} for number, at in rows]


INCREMENTAL = {"parameter": "since", "cursor": "at", "start": "2026-01-01"}


@pytest.mark.parametrize("inclusive", [True, False])
def test_only_what_is_new_is_sent(tmp_path: Path, server: Server, inclusive: bool) -> None:
    server.says["/things"] = events = Events(inclusive)
    made = of(tmp_path, server, incremental=INCREMENTAL)
    events.add((0, "2025-12-31"), (1, "2026-01-02"), (2, "2026-01-03"), (3, "2026-01-03"))
    assert sorted(ids(made.poll())) == [1, 2, 3]
    assert made.poll() == []
    made.restart()
    assert made.poll() == []
    if inclusive:  # another API would not tell of it
        events.add((4, "2026-01-03"))
        assert ids(made.poll()) == [4]
    events.add((5, "2026-01-04"))
    assert ids(made.poll()) == [5]
    assert [a.query.get("since") for a in server.asked[:2]] == ["2026-01-01", "2026-01-03"]


def test_what_is_new_arrives_once_wherever_it_is_killed(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producers.rest.incremental.BATCH_ROWS", 7)
    monkeypatch.setattr("producers.rest.incremental.MOST_AT_ONCE", 10)
    server.says["/things"] = events = Events()
    chance = random.Random(4)
    for number in range(200):  # many at one moment, more than go into one transaction
        events.add((number, f"2026-01-{chance.choice([3, 3, 3, 4, 5, 6]):02d}"))
    made = of(tmp_path, server, incremental=INCREMENTAL)
    polls = 0
    while made.poll(batches=chance.choice([1, 2])):
        made.restart()
        polls += 1
        if polls % 5 == 0 and len(events.rows) < 230:
            events.add((len(events.rows), "2026-01-06"))
        assert polls < 300, "it never ends"
    assert polls > 10
    assert sorted(ids([dict(r.value) for r in made.rows])) == list(range(len(events.rows)))


LATE = {**INCREMENTAL, "lag": "2d"}


def test_rows_that_come_late_within_the_lag_are_sent_once(tmp_path: Path, server: Server) -> None:
    server.says["/things"] = events = Events()
    made = of(tmp_path, server, incremental=LATE)
    events.add((1, "2026-01-02"), (2, "2026-01-05"))
    assert ids(made.poll()) == [1, 2]
    events.add((3, "2026-01-04"), (4, "2026-01-03"), (5, "2026-01-02"))
    assert ids(made.poll()) == [4, 3], "the last one is later than the lag"
    assert server.asked[-1].query["since"] == "2026-01-03"
    made.restart()
    assert made.poll() == []
    events.rows[2]["note"] = "corrected"
    assert [row.get("note") for row in made.poll()] == ["corrected"]
    events.add((6, "2026-01-09"), (7, "2026-01-07"))
    assert ids(made.poll()) == [7, 6]
    assert len(made.cursors["things:all"]["window"]) == 2, "no more than the lag is remembered"
    events.add((8, "2026-01-04"), (9, "2026-01-08"))
    assert ids(made.poll()) == [9]


def test_a_lag_that_is_set_or_taken_away_later_repeats_nothing(
    tmp_path: Path, server: Server
) -> None:
    server.says["/things"] = events = Events()
    events.add((1, "2026-01-02"), (2, "2026-01-05"), (3, "2026-01-05"))
    made = of(tmp_path, server, incremental=INCREMENTAL)
    assert ids(made.poll()) == [1, 2, 3]
    for incremental in (LATE, {**LATE, "lag": "300d"}, INCREMENTAL, LATE):
        again = of(tmp_path, server, incremental=incremental)
        again.cursors = made.cursors
        assert again.poll() == []
        made = again
    events.add((4, "2026-01-06"), (5, "2026-01-05"))
    assert ids(made.poll()) == [5, 4]


def test_late_rows_arrive_once_wherever_it_is_killed(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producers.rest.incremental.BATCH_ROWS", 7)
    monkeypatch.setattr("producers.rest.incremental.MOST_AT_ONCE", 10)
    server.says["/things"] = events = Events()
    chance = random.Random(5)
    for number in range(100):
        events.add((number, f"2026-01-{chance.choice([3, 3, 3, 4, 5, 9]):02d}"))
    made = of(tmp_path, server, incremental={**LATE, "lag": "9d"})
    polls = 0
    while made.poll(batches=chance.choice([1, 2])) or polls < 20:
        made.restart()
        polls += 1
        if len(events.rows) < 200:
            events.add((len(events.rows), f"2026-01-{chance.randrange(3, 10):02d}"))
        assert polls < 300, "it never ends"
    assert sorted(ids([dict(r.value) for r in made.rows])) == list(range(len(events.rows)))


@pytest.mark.parametrize(
    ("value", "lag", "said"),
    [
        (100, 7, 93),
        ("100", 7, "93"),
        (1.5, 1, Decimal("0.5")),
        ("2026-03-01", "1d", "2026-02-28"),
        ("2026-03-01", "1h", "2026-02-28"),
        ("2026-03-01T00:10:00Z", "30m", "2026-02-28T23:40:00Z"),
        ("2026-03-01 00:10:00", "30m", "2026-02-28 23:40:00"),
        ("2026-03-01T00:10:00.123-03:00", "10m", "2026-03-01T00:00:00.123-03:00"),
        ("2026-03-01T00:10:00.123456+00:00", "10m", "2026-03-01T00:00:00.123456+00:00"),
    ],
)
def test_what_lies_before_a_value_is_written_as_it_is(value: Any, lag: Any, said: Any) -> None:
    assert before(value, lag) == said


@pytest.mark.parametrize(("at", "lag"), [("x1", "2d"), (17, "2d"), ("2026-01-03", 5)])
def test_a_lag_that_does_not_fit_the_cursor_is_named(
    tmp_path: Path, server: Server, at: Any, lag: Any
) -> None:
    server.say("/things", [{"id": 1, "at": at}])
    made = of(tmp_path, server, incremental={"parameter": "since", "cursor": "at", "lag": lag})
    made.poll()
    state, reason = made.states()["things"]
    assert state == "stopped" and "`incremental.lag`" in reason


@pytest.mark.parametrize("type_", ["offset", "page"])
def test_rows_that_are_inserted_while_pages_are_read_repeat_no_other(
    tmp_path: Path, server: Server, type_: str
) -> None:
    rows = [{"id": number} for number in range(10)]

    def answer(asked: Asked) -> Reply:
        first = int(asked.query.get("offset", 0)) or 3 * (int(asked.query.get("page", 1)) - 1)
        found = rows[first : first + 3]
        if first == 3:  # the newest come first, and two more of them come now
            rows[:0] = [{"id": 100}, {"id": 101}]
        return Reply(found)

    server.says["/things"] = answer
    made = of(tmp_path, server, paging={"type": type_})
    assert ids(made.poll()) == list(range(10))
    assert sorted(ids(made.poll())) == [*range(10), 100, 101]


def test_rows_of_a_table_without_a_key_may_be_there_twice(tmp_path: Path, server: Server) -> None:
    pages = {"1": [{"x": 1}, {"x": 2}], "2": [{"x": 1}, {"x": 3}]}
    server.says["/things"] = lambda asked: Reply(pages.get(asked.query["page"], []))
    tables = {"things": table("/things", key=[], paging={"type": "page"})}
    made = RestLab(tmp_path, server.url, tables)
    assert [row["x"] for row in made.poll()] == [1, 2, 1, 3]


@pytest.mark.parametrize("incremental", [None, INCREMENTAL])
def test_rejects_are_resolved_once_all_was_asked_again(
    tmp_path: Path, server: Server, incremental: Any
) -> None:
    server.say("/things", [{"id": 1, "at": "2026-01-02"}, {"no": 2, "at": "2026-01-02"}])
    options = {"incremental": incremental} if incremental else {}
    made = of(tmp_path, server, **options)
    made.poll()
    assert len(made.rejects) == 1
    asked = request_backfill(made.config, "api", "things", None, None)
    assert not is_carried_out("things", made.cursors, asked)
    server.say("/things", b"", 500)
    with pytest.raises(ServiceUnreachable):
        made.poll()
    assert not is_carried_out("things", made.cursors, asked)
    server.say("/things", [{"id": 1, "at": "2026-01-02"}, {"id": 2, "at": "2026-01-02"}])
    made.restart()
    assert 2 in ids(made.poll())
    assert is_carried_out("things", made.cursors, asked)


def test_a_limit_of_dead_letters_stops_its_table_alone(tmp_path: Path, server: Server) -> None:
    bad = {**table("/bad"), "dead_letters": {"policy": "stop"}}
    made = RestLab(tmp_path, server.url, {"bad": bad, "good": table("/good"), "late": table("/l")})
    server.say("/bad", [{"id": 1}, 7, {"id": 2}])
    server.say("/good", [{"id": 3}])
    server.say("/l", [{"id": 4}])
    limits = RejectLimits(made.config, "api")
    for batch in limits.admitted(made.source.poll({})):
        made._write(batch)
    assert [(r.table, r.value["id"]) for r in made.rows] == [("good", 3), ("late", 4)]
    assert list(made.states()) == ["bad"] and "is `stop`" in made.states()["bad"][1]
    assert made.rejects == []


def test_a_cursor_without_order_is_named_and_a_record_without_one_is_rejected_once(
    tmp_path: Path, server: Server
) -> None:
    server.say("/things", [{"id": 1, "at": "2026-01-02"}, {"id": 2}, {"id": 3, "at": None}])
    made = of(tmp_path, server, incremental=INCREMENTAL)
    assert ids(made.poll()) == [1]
    assert made.poll() == []
    assert len(made.rejects) == 2
    assert "a record has no at" in made.rejects[0].reason
    server.say("/things", [{"id": 4, "at": 17}, {"id": 5, "at": "2026-01-03"}])
    assert ids(made.poll()) == [5]
    assert "its at is among numbers, and that of the others dates" in made.rejects[2].reason


@pytest.mark.parametrize(
    "odd", ["n/a", "NaN", "2026-01-01", Raw("1e99999999999999999999"), None, ""]
)
def test_one_record_whose_cursor_has_no_place_costs_itself_alone(
    tmp_path: Path, server: Server, odd: Any
) -> None:
    spec = {"parameter": "since", "cursor": "u"}

    def say(*cursors: Any) -> None:
        records = [
            f'{{"id": {n}, "u": {cursor.text if isinstance(cursor, Raw) else json.dumps(cursor)}}}'
            for n, cursor in enumerate(cursors, 1)
        ]
        server.say("/things", f"[{','.join(records)}]".encode())

    say(10, 11, odd)
    made = of(tmp_path, server, incremental=spec)
    assert sorted(ids(made.poll())) == [1, 2] and len(made.rejects) == 1
    say(10, 11, odd, 12)
    assert ids(made.poll()) == [4] and "things" not in made.states()
    assert len(made.rejects) == 1
    say(12, odd, 13)
    assert 3 in ids(made.poll())


def test_a_first_answer_of_two_kinds_of_cursors_is_named(tmp_path: Path, server: Server) -> None:
    server.say("/things", [{"id": 1, "u": 17}, {"id": 2, "u": "2026-01-01"}])
    made = of(tmp_path, server, incremental={"parameter": "since", "cursor": "u"})
    assert made.poll() == []
    assert "u has dates and numbers, which have no common order" in made.states()["things"][1]


def test_a_lag_before_the_first_year_is_the_value_itself(tmp_path: Path, server: Server) -> None:
    server.say("/things", [{"id": 1, "u": "0001-01-01T00:00:00"}])
    spec = {"parameter": "since", "cursor": "u", "lag": "2d"}
    made = of(tmp_path, server, incremental=spec)
    assert ids(made.poll()) == [1] and made.poll() == []
    assert "things" not in made.states()


@pytest.mark.parametrize(("pages", "read"), [(-1, 3), (0, 3), ("-1", 3), ("3", 3), (2, 2)])
def test_a_number_of_pages_below_one_says_nothing(
    tmp_path: Path, server: Server, pages: Any, read: int
) -> None:
    server.says["/things"] = lambda asked: Reply(
        {"pages": pages, "d": [{"id": n} for n in [int(asked.query["page"])] if n <= 3]}
    )
    paging = {"type": "page", "parameter": "page", "pages": "pages"}
    made = of(tmp_path, server, records="d", paging=paging)
    assert ids(made.poll()) == list(range(1, read + 1))


def test_cursors_are_compared_as_what_they_are() -> None:
    def before(one: Any, other: Any) -> bool:
        first, second = order_of(one), order_of(other)
        assert first is not None
        assert second is not None
        return first < second

    assert before(9, 10)
    assert before("9", "10")
    assert before(2**53, 2**53 + 1)
    assert before("18446744073709551616", "18446744073709551617")
    assert before("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5Z")
    assert before("2026-01-01T00:30:00+01:00", "2026-01-01T00:00:00Z")
    assert before("2026-01-01T00:00:00.123456789Z", "2026-01-01T00:00:00.12345679Z")
    assert before("a", "b")
    assert order_of(None) is None
    assert order_of({}) is None


# Snapshots that are killed -----------------------------------------------------------------------


def test_a_snapshot_arrives_once_wherever_it_is_killed(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producers.rest.snapshot.BATCH_ROWS", 10)
    rows = [{"id": number} for number in range(95)]
    server.say("/things", [*rows[:50], "stray", *rows[50:]], ETag='"one"')
    made = of(tmp_path, server)
    while made.poll(batches=1):
        made.restart()
        assert len(made.rows) < 500, "it never ends"
    assert ids([dict(r.value) for r in made.rows]) == list(range(95))
    assert len(made.rejects) == 1
    assert made.cursors["things:all"]["complete"]


# History -----------------------------------------------------------------------------------------


def test_history_is_asked_for_once_by_ranges_and_the_newest_again(
    tmp_path: Path, server: Server
) -> None:
    first = TODAY - timedelta(days=4)
    days = {f"/rates/{first + timedelta(days=n)}": [{"id": n, "v": 1}] for n in range(5)}
    for path, rows in days.items():
        server.say(path, rows)
    source = table("/rates/{date}", backfill={"from": first, "step": "day", "recheck": 2})
    made = RestLab(tmp_path, server.url, {"things": source})
    assert ids(made.poll()) == [0, 1, 2, 3, 4]
    server.asked.clear()
    server.say(f"/rates/{TODAY - timedelta(days=1)}", [{"id": 3, "v": 2}])
    server.say(f"/rates/{first}", [{"id": 0, "v": 2}])
    assert made.poll() == [{"id": 3, "v": 2}]
    assert server.paths() == [f"/rates/{TODAY - timedelta(days=1)}", f"/rates/{TODAY}"]


def test_a_range_whose_answer_is_none_is_asked_again_and_the_others_are_read(
    tmp_path: Path, server: Server
) -> None:
    paths = [f"/rates/{year}" for year in range(TODAY.year - 2, TODAY.year + 1)]
    server.say(paths[0], [{"id": 0}])
    server.say(paths[1], b"null")
    server.say(paths[2], [{"id": 2}])
    backfill = {"from": date(TODAY.year - 2, 1, 1), "step": "year"}
    made = RestLab(tmp_path, server.url, {"things": table("/rates/{year}", backfill=backfill)})
    with pytest.raises(ServiceUnreachable, match="null"):
        made.poll()
    assert ids([dict(r.value) for r in made.rows]) == [0, 2]
    server.say(paths[1], [{"id": 1}])
    made.restart()
    server.asked.clear()
    assert ids(made.poll()) == [1]
    assert server.paths() == paths[1:]


def test_ranges_go_into_parameters(tmp_path: Path, server: Server) -> None:
    server.says["/things"] = lambda asked: Reply([{"id": asked.query["from"]}])
    backfill = {
        "from": "2026-01-15",
        "until": "2026-03-10",
        "step": "month",
        "from_parameter": "from",
        "until_parameter": "to",
        "until_is_excluded": True,
        "format": "%d/%m/%Y",
    }
    made = of(tmp_path, server, backfill=backfill, params={"all": True})
    assert ids(made.poll()) == ["15/01/2026", "01/02/2026", "01/03/2026"]
    assert server.asked[0].query == {"from": "15/01/2026", "to": "01/02/2026", "all": "true"}
    assert sorted(made.cursors) == ["things:2026-01", "things:2026-02", "things:2026-03"]


def test_values_of_placeholders_are_escaped_and_each_has_its_cursor(
    tmp_path: Path, server: Server
) -> None:
    server.say("/rates/blue", [{"id": 1}])
    server.say("/rates/a%2Fb", [{"id": 2}])
    each = {"casa": ["blue", "a/b"]}
    made = RestLab(tmp_path, server.url, {"things": table("/rates/{casa}", each=each)})
    assert ids(made.poll()) == [1, 2]
    server.say("/rates/blue", [{"id": 3}])
    assert ids(made.poll()) == [3]


# Backfills ---------------------------------------------------------------------------------------


def backfill(made: RestLab, first: str | None = None, last: str | None = None) -> None:
    days = [date.fromisoformat(day) if day else None for day in (first, last)]
    request_backfill(made.config, "api", "things", *days)


def test_a_backfill_reads_history_again_once(tmp_path: Path, server: Server) -> None:
    rows = [{"id": n, "day": f"2026-0{n}-15"} for n in range(1, 6)]
    server.say("/things", rows)
    made = of(tmp_path, server, once=True, date_column="day")
    assert len(made.poll()) == 5
    backfill(made, "2026-02-15", "2026-04-14")
    assert ids(made.poll()) == [2, 3]
    assert made.poll() == []
    backfill(made)
    assert ids(made.poll()) == [1, 2, 3, 4, 5]
    made.restart()
    assert made.poll() == []


def test_a_backfill_that_is_killed_goes_on(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producers.rest.snapshot.BATCH_ROWS", 2)
    rows = [{"id": n, "day": f"2026-0{n}-15"} for n in range(1, 8)]
    server.say("/things", rows)
    made = of(tmp_path, server, date_column="day")
    made.poll()
    made.rows.clear()
    backfill(made, "2026-02-01")
    while made.poll(batches=1):
        made.restart()
        assert len(made.rows) < 100, "it never ends"
    assert ids([dict(r.value) for r in made.rows]) == [2, 3, 4, 5, 6, 7]


def test_a_backfill_of_ranges_asks_for_those(tmp_path: Path, server: Server) -> None:
    server.says["/things"] = lambda asked: Reply([{"id": asked.query["m"]}])
    spec = {"from": "2026-01-01", "until": "2026-05-31", "step": "month", "from_parameter": "m"}
    made = of(tmp_path, server, backfill=spec)
    made.poll()
    server.asked.clear()
    backfill(made, "2026-02-10", "2026-03-01")
    assert ids(made.poll()) == ["2026-02-01", "2026-03-01"]
    assert [a.query["m"] for a in server.asked] == ["2026-02-01", "2026-03-01", "2026-05-01"]
    assert made.poll() == []


def test_a_backfill_of_what_is_incremental_leaves_its_cursor(
    tmp_path: Path, server: Server
) -> None:
    server.says["/things"] = events = Events()
    made = of(tmp_path, server, incremental=INCREMENTAL)
    events.add((1, "2026-01-02"), (2, "2026-01-03"), (3, "2026-01-04"))
    made.poll()
    cursor = made.cursors["things:all"]
    backfill(made, "2026-01-03", "2026-01-03")
    assert ids(made.poll()) == [2]
    assert made.cursors["things:all"] == cursor
    events.add((4, "2026-01-05"))
    backfill(made)
    assert sorted(ids(made.poll())) == [1, 2, 3, 4, 4], "asked for again, and new"
    assert made.poll() == []


# Several requests, intervals, settings ------------------------------------------------------------


def test_several_requests_fill_one_table(tmp_path: Path, server: Server) -> None:
    server.say("/history", [{"day": 1}, {"day": 2}])
    server.say("/now", {"at": 3})
    requests = {"history": {"url": "/history", "once": True}, "current": {"url": "/now"}}
    spec = {"key": ["day", "at"], "options": {"requests": requests}}
    made = RestLab(tmp_path, server.url, {"things": spec})
    assert made.poll() == [{"day": 1}, {"day": 2}, {"at": 3}]
    server.say("/now", {"at": 4})
    server.asked.clear()
    assert made.poll() == [{"at": 4}]
    assert server.paths() == ["/now"]
    assert sorted(made.cursors) == ["things:current", "things:history"]


def test_a_table_has_an_interval_of_its_own(tmp_path: Path, server: Server) -> None:
    server.say("/a", [{"id": 1}])
    server.say("/b", [{"id": 2}])
    tables = {"a": table("/a", every="1h"), "b": table("/b")}
    made = RestLab(tmp_path, server.url, tables)
    assert ids(made.poll()) == [1, 2]
    made.poll()
    assert server.paths() == ["/a", "/b", "/b"]


def test_a_changed_option_reads_again(tmp_path: Path, server: Server) -> None:
    server.say("/things", {"a": [{"id": 1}], "b": [{"id": 2}]})
    made = of(tmp_path, server, records="a")
    assert ids(made.poll()) == [1]
    again = of(tmp_path, server, records="b")
    again.cursors = made.cursors
    assert ids(again.poll()) == [2]


def test_what_nobody_foresaw_costs_its_table_alone(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str, *rest: Any) -> Any:
        if "odd" in rest[0].url:
            raise KeyError("juan.perez@example.com")
        return units_of(name, *rest)

    monkeypatch.setattr("producers.rest.connector.units_of", fail)
    server.say("/good", [{"id": 1}])
    made = RestLab(tmp_path, server.url, {"odd": table("/odd"), "good": table("/good")})
    assert ids(made.poll()) == [1]
    assert "KeyError in fail, line" in made.states()["odd"][1]
    assert "juan.perez" not in str(made.states())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "give either `url`, or `requests`"),
        ({"url": "/a/{year}"}, "nothing gives {year} a value"),
        ({"url": "/a", "each": {"x": ["1"]}}, "which stands nowhere"),
        ({"url": "/a", "body": {}}, "`body` needs `method: POST`"),
        ({"url": "/a", "recods": "x"}, "unknown key; did you mean 'records'"),
        ({"url": "/a", "paging": {"type": "pages"}}, "'page', 'offset', 'cursor'"),
        ({"url": "/a", "paging": {"type": "cursor"}}, "next"),
        ({"url": "/a", "params": {"api_key": "hunter2"}}, "a secret in plain text"),
        ({"url": "/a", "every": "soon"}, "every"),
        (
            {"url": "/a", "once": True, "incremental": {"cursor": "x"}},
            "goes neither with `backfill` nor with `once`",
        ),
    ],
)
def test_a_wrong_option_is_found_before_anything_is_asked(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        made = RestLab(tmp_path, "http://127.0.0.1:1", {"a": {"options": options}})
        check_sources(made.config)
    assert said in str(caught.value)
    assert "ducklake.yml, line" in str(caught.value)


@pytest.mark.parametrize(
    ("connection", "said"),
    [
        ({"base_url": "ftp://x"}, "expected http:// or https://"),
        ({"base_url": "https://u:hunter2@x"}, "no user and password in the address"),
        ({"auth": {"type": "api_key", "api_key": "hunter2"}}, "name either the `header`"),
        ({"auth": {"type": "digest"}}, "'basic', 'bearer', 'api_key'"),
    ],
)
def test_a_wrong_connection_is_named_without_its_secret(
    tmp_path: Path, connection: dict[str, Any], said: str
) -> None:
    given = {"base_url": "https://example.com", **connection}
    with pytest.raises(ConfigError) as caught:
        RestLab(tmp_path, given.pop("base_url"), {"a": table("/a")}, **given)
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


# Frames ------------------------------------------------------------------------------------------


def test_a_frame_of_an_answer_keeps_integers_beside_what_is_missing() -> None:
    items = json_items(b'[{"id": 9007199254740993, "n": 1, "x": 0.1}, {"id": 2, "n": null}]')
    rows = frame_rows(exact_frame(items))
    assert rows == [
        {"id": 9007199254740993, "n": 1, "x": 0.1},
        {"id": 2, "n": None, "x": None},
    ]
    assert [type(row["n"]) for row in rows] == [int, type(None)]
    assert frame_rows(exact_frame([])) == []
    [exact] = json_items(b'{"a": 12345678901234.5678, "b": {"c": [1, null]}}')
    assert exact == {"a": "12345678901234.5678", "b": {"c": [1, None]}}
    assert frame_rows(exact_frame([exact])) == [exact]


def test_config_check_compares_each_table_with_its_first_page(
    tmp_path: Path, server: Server
) -> None:
    rows = [{"id": 1, "at": 1}]
    server.say("/good", {"data": rows, "next": None})
    server.say("/bare", rows)
    server.say("/down", b"", 503)
    server.say("/page", b"<html>")
    cursor: dict[str, Any] = {"records": "data", "paging": {"type": "cursor", "next": "next"}}
    tables = {
        "good": table("/good", **cursor),
        "key": table("/good", key=["id", "idd"], **cursor),
        "next": table("/good", records="data", paging={"type": "cursor", "next": "nxt"}),
        "records": table("/good", records="dta"),
        "since": table("/bare", incremental={"cursor": "att", "parameter": "since", "start": 0}),
        "down": table("/down"),
        "page": table("/page"),
        "late": table("/nowhere"),
    }
    made = RestLab(tmp_path, server.url, tables)
    told = list(server_problems(made.config, "api"))
    lines = {line.partition("api.tables.")[2] for line, is_error in told if is_error}
    expected = {
        "key: ": "its record has no idd, which `key` names",
        "next: ": "its first page has no nxt, which `paging.next` names",
        "records: ": "has no dta",
        "since: ": "its record has no att, which `incremental.cursor` names",
        "page: ": "not JSON, but HTML or XML",
    }
    assert {line.partition(" ")[0] + " " for line in lines} == expected.keys()
    for start, said in expected.items():
        assert any(line.startswith(start) and said in line for line in lines), lines
    notes = [line.partition("api.tables.")[2] for line, is_error in told if not is_error]
    assert all("not checked against its answer" in note for note in notes)
    assert [note.partition(":")[0] for note in notes] == ["down", "late"]
    asked = len(server.asked)
    assert asked == len(tables), "one page each"
