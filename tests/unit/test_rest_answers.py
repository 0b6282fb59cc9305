"""`type: rest` against a server that misbehaves in every way that servers do."""

from __future__ import annotations

import gzip
import json
import re
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import closing
from email.utils import formatdate
from pathlib import Path
from random import Random
from typing import Any

import pytest
import structlog

from lake.errors import ServiceUnreachable
from producers.http.answer import retry_after
from producers.http.connection import RestConnection
from producers.http.gate import is_private
from producers.http.reader import HttpReader
from producers.pace import Pace
from tests.unit.rest_lab import Asked, Reply, RestLab, Server, serving, table

ROWS = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


def lab(tmp_path: Path, server: Server, **more: Any) -> RestLab:
    """One table that is asked at /things, and a good one beside it."""
    server.say("/good", [{"id": 9}])
    tables = {"things": table("/things"), "good": table("/good")}
    return RestLab(tmp_path, server.url, tables, **more)


def costs_itself_alone(made: RestLab, state: str, said: str) -> None:
    """The table is in a state that names the reason, and the good one is read."""
    made.poll()
    assert [record.table for record in made.rows] == ["good"]
    assert made.states().keys() == {"things"}, made.states()
    assert made.states()["things"][0] == state
    assert re.search(said, made.states()["things"][1]), made.states()


# What is as it should be -------------------------------------------------------------------------


def test_an_unchanged_answer_produces_nothing_and_a_changed_one_all(
    tmp_path: Path, server: Server
) -> None:
    made = lab(tmp_path, server)
    server.say("/things", ROWS)
    assert len(made.poll()) == 3
    assert made.poll() == []
    made.restart()
    assert made.poll() == []
    server.say("/things", [*ROWS, {"id": 3}])
    assert made.poll() == [*ROWS, {"id": 3}]
    assert made.rows[0].provenance["url"] == f"{server.url}/things"
    assert made.rows[0].provenance["status"] == 200
    assert [record.key for record in made.rows[:3]] == ["[1]", "[2]", "[9]"]


@pytest.mark.parametrize(
    ("answer", "question"),
    [
        ({"ETag": '"v1"'}, {"if-none-match": '"v1"'}),
        (
            {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"},
            {"if-modified-since": "Thu, 01 Jan 2026 00:00:00 GMT"},
        ),
    ],
)
def test_a_known_answer_is_not_asked_for_again(
    tmp_path: Path, server: Server, answer: dict[str, str], question: dict[str, str]
) -> None:
    def say(asked: Asked) -> Reply:
        if question.items() <= asked.headers.items():
            return Reply(status=304)
        return Reply(ROWS, headers=answer)

    made = lab(tmp_path, server)
    server.says["/things"] = say
    assert len(made.poll()) == 3
    made.restart()
    server.asked.clear()
    assert made.poll() == []
    [asked] = [asked for asked in server.asked if asked.path == "/things"]
    assert question.items() <= asked.headers.items()
    assert made.states() == {}


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (gzip.compress(json.dumps(ROWS).encode()), {"Content-Encoding": "gzip"}),
        (zlib.compress(json.dumps(ROWS).encode()), {"Content-Encoding": "deflate"}),
        (
            gzip.compress(json.dumps(ROWS)[:9].encode())
            + gzip.compress(json.dumps(ROWS)[9:].encode()),
            {"Content-Encoding": "gzip"},
        ),
        (b"\xef\xbb\xbf" + json.dumps(ROWS).encode(), {}),
        (json.dumps(ROWS).encode("utf-16"), {}),
    ],
    ids=["gzip", "deflate", "gzip of two members", "BOM", "UTF-16"],
)
def test_packed_answers_and_those_with_a_bom_are_read(
    tmp_path: Path, server: Server, content: bytes, headers: dict[str, str]
) -> None:
    made = lab(tmp_path, server)
    server.says["/things"] = Reply(content, headers=headers)
    assert made.poll() == [*ROWS, {"id": 9}]
    assert made.states() == {}


LETTERS = [{"id": 1, "name": "Ñandú"}]


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        ("application/json; charset=ISO-8859-1", "latin-1"),
        ('application/json;charset="windows-1252"', "cp1252"),
        ("text/plain; Charset=UTF-16", "utf-16"),
        ("application/json; charset=utf-16", "utf-16-be"),
        ("application/json; charset=utf-16", "utf-16-le"),
        ("application/json; charset=UTF-16LE", "utf-16-le"),
        ("application/json; charset=cp037", "cp037"),
        ("application/json; charset=iso-8859-15", "iso-8859-15"),
        ("application/json; charset=ISO-8859-1", "utf-8"),
        ("application/json; charset=us-ascii", "utf-8"),
        ("application/json; charset=ISO-8859-1", "utf-8-sig"),
        ("application/json; charset=nonsense", "utf-8"),
        ("application/json; charset=hex", "utf-8"),
        ("application/json; charset", "utf-8"),
        ("application/json", "utf-16-be"),
        ("application/json", "utf-32-le"),
    ],
)
def test_the_charset_of_an_answer_is_honoured(
    tmp_path: Path, server: Server, content_type: str, encoding: str
) -> None:
    content = json.dumps(LETTERS, ensure_ascii=False).encode(encoding)
    server.says["/things"] = Reply(content, headers={"Content-Type": content_type})
    made = lab(tmp_path, server)
    assert made.poll()[:1] == LETTERS
    assert made.poll() == [] and made.rejects == []


def test_a_charset_that_is_not_that_of_the_answer_alters_nothing(
    tmp_path: Path, server: Server
) -> None:
    content = b'[{"id": 1, "name": "\xd1"}, {"id": 2}]'
    for charset in ("us-ascii", "utf-8", "utf-16"):
        kind = {"Content-Type": f"application/json; charset={charset}"}
        server.says["/things"] = Reply(content, headers=kind)
        made = lab(tmp_path, server)
        assert [row["id"] for row in made.poll() if row["id"] < 9] == [2]
        assert "bytes that are not UTF-8" in made.rejects[0].reason


@pytest.mark.parametrize("kind", ["application/xml", "application/atom+xml", "text/csv"])
def test_a_connector_of_ones_own_gets_texts_in_utf_8_and_xml_as_it_is(
    server: Server, kind: str
) -> None:
    content = "ñ;á\n".encode("latin-1")
    server.says["/a"] = Reply(content, headers={"Content-Type": f"{kind}; charset=ISO-8859-1"})
    with closing(HttpReader("own", RestConnection(base_url=server.url))) as http:
        assert http.get("/a") == (content if "xml" in kind else "ñ;á\n".encode())


def test_numbers_keep_every_digit_and_a_bad_record_costs_itself(
    tmp_path: Path, server: Server
) -> None:
    made = lab(tmp_path, server)
    server.says["/things"] = Reply(
        b'[{"id": 1, "n": 12345678901234.5678, "big": 18446744073709551616, "i": 9007199254740993},'
        b' {"id": 2, "id": 3}, {"id": 4, "text": "\\ud800"}, {"id": 5, "n": 1e999}, 7, {"x": 1},'
        b' {"id": 6, "n": NaN}, {"id": 7, "n": null}]'
    )
    made.poll()
    rows = {record.value["id"]: record.value for record in made.rows if record.table == "things"}
    assert rows == {
        1: {
            "id": 1,
            "n": "12345678901234.5678",
            "big": "18446744073709551616",
            "i": 9007199254740993,
        },
        5: {"id": 5, "n": "1e999"},
        7: {"id": 7, "n": None},
    }
    assert [reject.reason.partition(", ")[2] for reject in made.rejects] == [
        "item 2: an object has a key twice",
        "item 3: it has bytes that are not UTF-8, or half a character",
        "item 5: it is not a JSON object",
        "item 6: it has none of the columns id",
        "item 7: it is not JSON",
    ]
    assert made.poll() == []
    assert len(made.rejects) == 5


# What is none ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"null", "things: null"),
        ({"message": "try later"}, "no record: it has none of the columns id"),
        (b"<!DOCTYPE html><html></html>", "not JSON, but HTML"),
        (b"", "empty"),
        (b"[1", "it ends in the middle"),
        (b'[{"id": 1}] x', "something follows"),
        (b'"text"', "no array and no object"),
        (b"\xff\xfe\x00", "not valid text"),
        ([{"message": "try later"}], "none of its 1 items is a record: it has none of the columns"),
        ([[{"id": 1}], None, "x"], "none of its 3 items is a record: it is not a JSON object"),
        (b'callback([{"id": 1}]);', "not JSON"),
        (b'{"id": 1}\n{"id": 2}', "something follows the value"),
        (gzip.compress(b'[{"id": 1}]', mtime=0), "not JSON"),
        (b"  \n", "empty"),
    ],
)
def test_an_answer_with_status_200_that_is_none_never_counts_as_complete(
    tmp_path: Path, server: Server, content: Any, said: str
) -> None:
    made = lab(tmp_path, server)
    server.say("/things", content)
    costs_itself_alone(made, "retrying", said)
    [reject] = made.rejects
    assert reject.payload == Reply(content).body
    assert not made.cursors["things:all"]["complete"]
    made.restart()
    made.poll()
    assert len(made.rejects) == 1, "the same answer is rejected once"
    server.say("/things", ROWS)
    made.restart()
    assert made.poll() == ROWS
    server.say("/things", content)
    made.poll()
    server.say("/things", ROWS)
    made.restart()
    assert made.poll() == [], "what was read before stays known"


@pytest.mark.parametrize(
    "content",
    [
        {"data": None},
        {"data": {"items": 3}},
        {"other": []},
        [],
        {"data": {"items": None}},
        {"data": {"items": []}, "error": "quota exceeded"},
        {"data": {"items": []}, "errors": [{"code": 3}]},
        {"success": False, "data": {"items": []}},
        b'{"data": {"items": [{"id": 1}], "items": [{"id": 2}]}}',
        b'{"data": {"items": [{"id": 1}]}, "data": {"items": []}}',
        b'{"data": {"items": [{"id": 1}]}, "more": ',
    ],
)
def test_records_that_are_not_where_they_should_be_are_none(
    tmp_path: Path, server: Server, content: Any
) -> None:
    server.say("/things", content)
    made = RestLab(tmp_path, server.url, {"things": table("/things", records="data.items")})
    with pytest.raises(ServiceUnreachable, match=r"no |twice|ends in the middle"):
        made.poll()
    assert not made.rows
    assert not made.cursors["things:all"]["complete"]
    server.say("/things", {"data": {"items": ROWS}, "more": 1})
    made.restart()
    assert made.poll() == ROWS


def test_an_answer_without_records_and_without_an_error_is_one(
    tmp_path: Path, server: Server
) -> None:
    server.say("/things", {"error": None, "errors": [], "success": True, "data": []})
    made = RestLab(tmp_path, server.url, {"things": table("/things", records="data")})
    assert made.poll() == [] and made.states() == {}
    assert made.cursors["things:all"]["complete"]


@pytest.mark.parametrize(
    ("status", "said"), [(204, "answer 404 or 204"), (304, "304, though nothing of it is known")]
)
@pytest.mark.parametrize("once", [False, True])
def test_no_content_never_counts_as_complete(
    tmp_path: Path, server: Server, status: int, said: str, once: bool
) -> None:
    server.say("/good", [{"id": 9}])
    server.say("/things", b"", status)
    tables = {"things": table("/things", once=once), "good": table("/good")}
    made = RestLab(tmp_path, server.url, tables)
    costs_itself_alone(made, "retrying", said)
    server.say("/things", ROWS)
    made.restart()
    assert made.poll() == ROWS and made.states() == {}


def test_a_page_that_is_not_sent_as_it_is_known_cuts_nothing_off(
    tmp_path: Path, server: Server
) -> None:
    """What was known of one page is said of the first one alone."""
    several = [False]

    def say(asked: Asked) -> Reply:
        page = int(asked.query["page"])
        if page > 1 and "if-none-match" in asked.headers:
            return Reply(status=304)
        found = {1: [{"id": 1}], 2: [{"id": 2}]} if several[0] else {}
        return Reply(found.get(page, []), headers={"ETag": '"v"'} if not several[0] else {})

    server.says["/things"] = say
    made = RestLab(tmp_path, server.url, {"things": table("/things", paging={"type": "page"})})
    assert made.poll() == []
    assert made.cursors["things:all"]["etag"] == '"v"'
    several[0] = True
    assert made.poll() == [{"id": 1}, {"id": 2}]
    server.says["/things"] = lambda asked: Reply(
        [{"id": 1}], 200 if asked.query["page"] == "1" else 304
    )
    made.restart()
    assert made.poll() == []
    assert "page 2 answers 304" in made.states()["things"][1]


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("file:///etc/passwd", "no address of HTTP"),
        ("ftp://example.com/x", "no address of HTTP"),
        ("data:application/json,[]", "no address of HTTP"),
        ("http://127.0.0.1:99999/", "no address of HTTP"),
        ("http://[::1", "no address"),
        ("http://u:hunter2@169.254.169.254/", "private address"),
        ("", "more than 10 redirects"),
    ],
)
def test_a_redirect_to_no_page_is_named(
    tmp_path: Path, server: Server, location: str, said: str
) -> None:
    server.says["/things"] = Reply(status=302, headers={"Location": location})
    made = lab(tmp_path, server)
    costs_itself_alone(made, "stopped", said)
    assert "hunter2" not in str(made.states())


@pytest.mark.parametrize("status", [201, 203, 206, 226, 300, 302, 402, 409, 418, 451])
def test_a_status_that_nobody_expects_stops_its_table(
    tmp_path: Path, server: Server, status: int
) -> None:
    server.say("/things", ROWS, status)
    costs_itself_alone(lab(tmp_path, server), "stopped", f"status {status}")


def test_history_that_is_asked_once_is_asked_until_it_is_there(
    tmp_path: Path, server: Server
) -> None:
    made = RestLab(tmp_path, server.url, {"things": table("/things", once=True)})
    server.say("/things", {"message": "no"})
    with pytest.raises(ServiceUnreachable):
        made.poll()
    server.say("/things", ROWS)
    made.restart()
    assert made.poll() == ROWS
    server.asked.clear()
    made.restart()
    assert made.poll() == []
    assert server.asked == []


def test_a_message_is_no_record_even_where_nothing_says_what_one_is(
    tmp_path: Path, server: Server
) -> None:
    made = RestLab(tmp_path, server.url, {"things": table("/things", key=[])})
    server.say("/things", {"error": "x", "code": 3})
    with pytest.raises(ServiceUnreachable, match="a message"):
        made.poll()
    server.say("/things", {"price": "x", "code": 3})
    made.restart()
    assert made.poll() == [{"price": "x", "code": 3}]


# Refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 405, 410, 422])
def test_a_refusal_stops_its_table_alone(tmp_path: Path, server: Server, status: int) -> None:
    made = lab(tmp_path, server)
    server.say("/things", b"secret-body", status)
    costs_itself_alone(made, "stopped", f"status {status}")
    assert "secret-body" not in str(made.states())


@pytest.mark.parametrize("status", [408, 425, 500, 502, 503, 504])
def test_a_failure_is_retried_and_stops_no_other_table(
    tmp_path: Path, server: Server, status: int
) -> None:
    made = lab(tmp_path, server)
    server.say("/things", b"", status)
    made.poll()
    assert made.states()["things"][0] == "retrying"
    server.say("/things", ROWS)
    made.restart()
    assert ROWS[0] in made.poll()
    assert made.states() == {}


def test_nothing_is_asked_before_a_server_wants_it(tmp_path: Path, server: Server) -> None:
    made = lab(tmp_path, server)
    server.say("/things", b"", 429, Retry_After="3600")
    for _ in range(3):
        with pytest.raises(ServiceUnreachable, match="status 429, asked again in 3600 s"):
            made.poll()
    assert server.paths() == ["/things"], "the server is left alone, whatever the table"
    assert made.states()["things"][0] == "retrying"
    assert made.source.table_states()[0].next_attempt is not None


def test_pauses_of_a_failing_table_grow_to_a_limit_and_vary() -> None:
    def pauses(dice: Random) -> list[float]:
        pace = Pace("api", {"t": None, "good": None}, dice)
        with structlog.testing.capture_logs() as logs:
            for n in range(12):
                pace.failed("t", ServiceUnreachable(f"failure {n}", ""))
        return [line["seconds"] for line in logs]

    plain = [min(300.0, 2.0 * 2**n) for n in range(12)]
    dice = Random(14)
    spread = [dice.uniform(0.8, 1.2) for _ in range(12)]
    expected = [round(min(300.0, p * s), 1) for p, s in zip(plain, spread, strict=True)]
    assert pauses(Random(14)) == expected
    assert pauses(Random(15)) != expected, "tables that failed together must not return together"
    pace = Pace("api", {"t": None}, Random(14))
    pace.failed("t", ServiceUnreachable("failure", ""))
    pace.went_well("t")
    with structlog.testing.capture_logs() as logs:
        pace.failed("t", ServiceUnreachable("another", ""))
    assert logs[0]["seconds"] <= 2.4, "after it went well, pauses begin anew"


def test_retry_after_is_a_number_or_a_date() -> None:
    assert retry_after("120") == 120
    assert retry_after(None) is None
    assert retry_after("soon") is None
    later = retry_after(formatdate(time.time() + 1000, usegmt=True))
    assert later is not None
    assert 900 < later <= 1000
    assert retry_after(formatdate(0, usegmt=True)) == 0
    assert retry_after("9" * 30) == 86_400


def test_a_page_that_is_asked_for_later_does_not_begin_anew(tmp_path: Path, server: Server) -> None:
    busy = [True]

    def say(asked: Asked) -> Reply:
        page = int(asked.query["page"])
        if page == 3 and busy:
            busy.pop()
            return Reply(status=503, headers={"Retry-After": "0"})
        return Reply([{"id": page}] if page < 5 else [])

    server.says["/things"] = say
    made = RestLab(tmp_path, server.url, {"things": table("/things", paging={"type": "page"})})
    with pytest.raises(ServiceUnreachable, match="503"):
        made.poll()
    deadline = time.monotonic() + 30
    while not (rows := made.poll() if not made.states() else retried(made)):
        assert time.monotonic() < deadline
    assert [row["id"] for row in rows] == [1, 2, 3, 4]
    assert [asked.query["page"] for asked in server.asked] == ["1", "2", "3", "3", "4", "5"]


def retried(made: RestLab) -> list[dict[str, Any]]:
    made.source.wait(threading.Event(), 1)
    try:
        return made.poll()
    except ServiceUnreachable:
        return []


# Limits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_headers", [False, True], ids=["body", "headers"])
def test_a_dripping_answer_ends_at_the_deadline(
    tmp_path: Path, server: Server, in_headers: bool
) -> None:
    ended, drops = threading.Event(), [0]

    def wait() -> None:
        drops[0] += 1
        ended.wait(0.05)

    drip = Reply(b"[" + b" " * 300, drip=wait, drip_headers=in_headers)
    server.says["/things"] = drip
    made = lab(tmp_path, server, total_seconds=0.5, read_seconds=30)
    costs_itself_alone(made, "retrying", "no whole answer within 0.5 s")
    ended.set()
    assert drops[0] < 250, "it was cut off, and not only called late"


def test_a_truncated_answer_is_retried(tmp_path: Path, server: Server) -> None:
    body = json.dumps(ROWS).encode()
    server.says["/things"] = Reply(body, length=len(body) + 1)
    costs_itself_alone(lab(tmp_path, server), "retrying", "IncompleteRead|ProtocolError|Incomplete")
    chunks = b"%x\r\n%s\r\n" % (len(body), body)
    for cut in (chunks, chunks[:-9], chunks + b"zz\r\n"):  # its end is a chunk of length 0
        chunked = {"Transfer-Encoding": "chunked", "Connection": "close"}
        server.says["/things"] = Reply(cut, headers=chunked, length=None)
        costs_itself_alone(lab(tmp_path, server), "retrying", "IncompleteRead|Protocol|Invalid")
    packed = gzip.compress(body)[:-3]
    server.says["/things"] = Reply(packed, headers={"Content-Encoding": "gzip"})
    costs_itself_alone(lab(tmp_path, server), "retrying", "broken: it ends in the middle")


@pytest.mark.parametrize("packed", [False, True])
def test_a_huge_answer_is_refused_with_its_limit(
    tmp_path: Path, server: Server, packed: bool
) -> None:
    body = b"[" + b" " * 3_000_000
    headers = {"Content-Encoding": "gzip"} if packed else {}
    server.says["/things"] = Reply(gzip.compress(body) if packed else body, headers=headers)
    made = lab(tmp_path, server, max_mb=1)
    costs_itself_alone(made, "stopped", "more than 1 MB")
    server.say("/things", ROWS)
    made.source.close()
    mended = lab(tmp_path, server, max_mb=4)
    assert len(mended.poll()) == 3


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:169.254.169.254]/",
        "http://127.0.0.1:1/",
        "http://localhost:1/",
        "http://10.0.0.1/",
        "http://[fd00::1]/",
        "http://2130706433/",
    ],
)
def test_redirects_do_not_lead_into_the_private_network(
    tmp_path: Path, server: Server, location: str
) -> None:
    server.says["/things"] = Reply(status=302, headers={"Location": location})
    costs_itself_alone(lab(tmp_path, server), "stopped", "leads to a private address")


def test_a_redirect_to_a_private_address_is_followed_where_that_is_meant(
    tmp_path: Path, server: Server
) -> None:
    with serving() as other:
        other.say("/there", ROWS)
        server.says["/things"] = Reply(status=307, headers={"Location": f"{other.url}/there"})
        token = {"type": "bearer", "token": "hunter2hunter2"}
        made = lab(tmp_path, server, auth=token)
        costs_itself_alone(made, "stopped", "private address")
        assert "allow_private_addresses" in made.source.table_states()[0].remedy
        made = lab(tmp_path, server, auth=token, allow_private_addresses=True)
        assert len(made.poll()) == 3
        assert "authorization" not in other.asked[0].headers
        assert server.asked[0].headers["authorization"] == "Bearer hunter2hunter2"


def test_redirects_within_the_api_keep_the_login_and_end(tmp_path: Path, server: Server) -> None:
    server.says["/things"] = Reply(status=301, headers={"Location": "/there"})
    server.say("/there", ROWS)
    made = lab(tmp_path, server, auth={"type": "bearer", "token": "hunter2hunter2"})
    assert len(made.poll()) == 3
    there = next(asked for asked in server.asked if asked.path == "/there")
    assert there.headers["authorization"] == "Bearer hunter2hunter2"
    server.says["/there"] = Reply(status=301, headers={"Location": "/things"})
    made.rows.clear()
    made.restart()
    made.poll()
    assert "more than 10 redirects" in made.states()["things"][1]


def test_private_addresses_are_told_from_public_ones() -> None:
    private = ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fe80::1", "::ffff:10.0.0.1"]
    private += ["0.0.0.0", "100.64.0.1", "224.0.0.1", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1"]
    assert [address for address in private if not is_private(address)] == []
    public = ["8.8.8.8", "2606:4700:4700::1111", "64:ff9b::808:808", "example.com"]
    assert [address for address in public if is_private(address)] == []


# Secrets -----------------------------------------------------------------------------------------

SECRET = "s3cr3t-t0ken+/="


@pytest.mark.parametrize(
    ("auth", "where", "value"),
    [
        ({"type": "bearer", "token": SECRET}, "authorization", f"Bearer {SECRET}"),
        (
            {"type": "basic", "user": "u", "password": SECRET},
            "authorization",
            "Basic dTpzM2NyM3QtdDBrZW4rLz0=",
        ),
        ({"type": "api_key", "header": "X-Key", "api_key": SECRET}, "x-key", SECRET),
        ({"type": "api_key", "parameter": "k", "api_key": SECRET}, "k", SECRET),
    ],
)
def test_a_secret_logs_in_and_is_shown_nowhere(
    tmp_path: Path, server: Server, auth: dict[str, str], where: str, value: str
) -> None:
    made = lab(tmp_path, server, auth=auth)
    server.say("/things", [{"id": 1}, f"echo {SECRET}"])
    with structlog.testing.capture_logs() as logs:
        made.poll()
        asked = next(asked for asked in server.asked if asked.path == "/things")
        assert {**asked.headers, **asked.query}[where] == value
        for status, content in ((403, b""), (500, b""), (200, f"<h1>{SECRET}".encode())):
            server.say("/things", content, status)
            made.restart()
            made.poll()
            assert made.states()
    said = json.dumps(logs) + str(made.source.table_states()) + repr(made.config.settings)
    said += "".join(str(record.provenance) for record in made.rows) + str(made.cursors)
    said += "".join(f"{reject.provenance}{reject.reason}" for reject in made.rejects)
    assert SECRET not in said
    assert "s3cr3t-t0ken%2B%2F%3D" not in said
    assert all(SECRET.encode() not in reject.payload for reject in made.rejects[-1:])


def test_an_oauth_token_is_asked_for_once_and_again_when_it_is_refused(
    tmp_path: Path, server: Server
) -> None:
    tokens = iter(["first-token", "second-token"])
    server.says["/token"] = lambda asked: Reply({"access_token": next(tokens), "expires_in": 3600})
    good = ["first-token"]

    def say(asked: Asked) -> Reply:
        if asked.headers.get("authorization") != f"Bearer {good[0]}":
            return Reply(b"first-token is no good", 401)
        return Reply([{"id": 1, "by": good[0][:5]}])

    server.says["/things"] = say
    auth = {
        "type": "oauth2",
        "token_url": f"{server.url}/token",
        "client_id": "me",
        "client_secret": SECRET,
        "scope": "read",
    }
    made = RestLab(tmp_path, server.url, {"things": table("/things")}, auth=auth)
    assert made.poll() == [{"id": 1, "by": "first"}]
    assert made.poll() == []
    good[0] = "second-token"
    assert made.poll() == [{"id": 1, "by": "secon"}]
    asked = [asked for asked in server.asked if asked.path == "/token"]
    assert len(asked) == 2
    assert asked[0].body == b"grant_type=client_credentials&scope=read"
    assert asked[0].headers["authorization"].startswith("Basic ")
    server.say("/token", b"no", 401)
    made.restart()
    made.poll()
    state, reason = made.states()["things"]
    assert (state, "/token: status 401" in reason) == ("stopped", True)


def test_no_password_of_netrc_is_sent(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login u password hunter2\n")
    monkeypatch.setenv("NETRC", str(netrc))
    lab(tmp_path, server).poll()
    assert all("authorization" not in asked.headers for asked in server.asked)


def test_a_table_that_is_not_there_yet_is_asked_again(tmp_path: Path, server: Server) -> None:
    made = lab(tmp_path, server)
    made.poll()
    assert made.states()["things"] == ("retrying", "All addresses of api.things answer 404 or 204.")
    server.say("/things", ROWS)
    made.restart()
    assert made.poll() == ROWS
