from __future__ import annotations

import csv
import io
import random
import tracemalloc
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.formats import FORMATS, BadRow, Row
from producers.formats import lines as module
from producers.formats.delimited import DelimitedOptions
from producers.formats.row import UnreadableFile


def read(content: bytes, **options: Any) -> list[Row | BadRow]:
    form = FORMATS[".csv"]
    found = form.read(io.BytesIO(content), form.options.model_validate(options))
    return [row._replace(line=0) for row in found]


def good(rows: list[Row | BadRow]) -> list[dict[str, Any]]:
    return [dict(row.values) for row in rows if isinstance(row, Row)]


def bad(rows: list[Row | BadRow]) -> list[BadRow]:
    return [row for row in rows if isinstance(row, BadRow)]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_text_stays_text_with_and_without_a_bom(mark: bytes) -> None:
    content = mark + b"sku;unit_cost_ars;on\r\nA-1;1.234,50;01/02/2026\r\n007;;\r\n"
    assert good(read(content, delimiter=";")) == [
        {"sku": "A-1", "unit_cost_ars": "1.234,50", "on": "01/02/2026"},
        {"sku": "007", "unit_cost_ars": "", "on": ""},
    ]


def test_latin_1_with_quoted_delimiters_doubled_quotes_and_line_breaks() -> None:
    content = 'id|text\n1|"a|b ""c"" ñ"\n2|"one\ntwo\r\nthree"\n3|é\n'.encode("latin-1")
    rows = read(content, delimiter="|", quote='"', encoding="latin-1")
    assert good(rows) == [
        {"id": "1", "text": 'a|b "c" ñ'},
        {"id": "2", "text": "one\ntwo\r\nthree"},
        {"id": "3", "text": "é"},
    ]
    assert [row.number for row in rows] == [1, 2, 3]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"2", "it has 1 fields, the header has 2"),
        (b"2,b,c", "it has 3 fields, the header has 2"),
        (b"2,caf\xe9", "it is not valid utf-8-sig"),
        (b'2,"b"c', "',' expected after '\"'"),
        (b'2,"never closed', "',' expected after '\"'"),
    ],
)
def test_a_bad_row_costs_itself_alone_and_keeps_its_bytes(line: bytes, reason: str) -> None:
    rows = read(b"id,text\n1,a\n" + line + b'\n3,"c"\n4,d\n5,"e"\n')
    assert bad(rows) == [BadRow(2, line, reason)]
    assert good(rows) == [
        {"id": i, "text": t} for i, t in (("1", "a"), *zip("345", "cde", strict=True))
    ]
    assert [row.number for row in rows] == [1, 2, 3, 4, 5]


def test_a_quote_that_is_never_closed_swallows_nothing() -> None:
    rows = read(b'id,text\n1,"open\n2,b\n3,c\n')
    assert bad(rows) == [BadRow(1, b'1,"open', "unexpected end of data")]
    assert [row["id"] for row in good(rows)] == ["2", "3"]


def test_reject_bytes_are_those_of_the_file() -> None:
    line = 'ñ|"x ""y"" z"|extra'.encode("latin-1")
    content = b"a|b\n" + line + b"\r\n1|2\r\n"
    rows = read(content, delimiter="|", encoding="latin-1")
    assert [row.payload for row in bad(rows)] == [line]
    utf_16 = "a,b\n1\n2,ñ\n".encode("utf-16")
    rows = read(utf_16, encoding="utf-16")
    assert [row.payload for row in bad(rows)] == ["1".encode("utf-16-le")]
    assert good(rows) == [{"a": "2", "b": "ñ"}]


def test_a_row_without_an_end_is_cut_and_costs_itself_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_CHARACTERS", 20)
    content = b"a,b\n1," + b"x" * 50 + b'\n2,y\n3,"open\n4,' + b"z" * 70 + b"\n5,b\n6,c\n"
    rows = read(content)
    assert [row.number for row in bad(rows)] == [1, 3, 4]
    assert all(len(row.payload) <= 20 for row in bad(rows))
    assert [row["a"] for row in good(rows)] == ["2", "5", "6"]


def test_empty_lines_are_no_rows() -> None:
    assert good(read(b"\n\na,b\n\n1,2\n\n\n3,4")) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    assert read(b"a,b\n") == []


@pytest.mark.parametrize(
    ("content", "encoding", "reason"),
    [
        (b"", "utf-8-sig", "no header"),
        (b"\n\n", "utf-8-sig", "no header"),
        (b"a\x00,\x00b\x00\n", "utf-8-sig", "NUL characters: it may be UTF-16"),
        ("a,b\n1,2\n".encode("utf-16-le"), "utf-16", "no byte order mark"),
        (b"a,caf\xe9\n", "utf-8-sig", "header line is not valid"),
        (b'a,"b', "utf-8-sig", "header line cannot be read"),
        ("a,b\n1,2\n".encode("utf-16") + b"\x01", "utf-16", "not valid utf-16"),
    ],
)
def test_what_has_no_usable_header_is_refused_whole(
    content: bytes, encoding: str, reason: str
) -> None:
    with pytest.raises(UnreadableFile, match=reason):
        read(content, encoding=encoding)


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)


@given(
    st.lists(st.lists(TEXTS, min_size=2, max_size=2), max_size=8),
    st.sampled_from(",;|\t"),
    st.sampled_from(["\n", "\r\n"]),
)
def test_whatever_is_written_is_read_again(rows: list[list[str]], delimiter: str, end: str) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator=end)
    writer.writerows([["a", "b"], *rows])
    found = read(text.getvalue().encode(), delimiter=delimiter)
    assert [(row.number, row.values) for row in found if isinstance(row, Row)] == [
        (number, {"a": row[0], "b": row[1]}) for number, row in enumerate(rows, 1)
    ]


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_good_rows_survive_any_mixture_with_bad_ones(
    kinds: list[bool], dice: random.Random
) -> None:
    broken = [b"x", b"x,y,z", b"x,\xff", b'x,"y"z', b'"x"y,z']
    lines = [b'%d,"v"' % n if ok else dice.choice(broken) for n, ok in enumerate(kinds)]
    rows = read(b"a,b\n" + b"\n".join(lines) + b"\n")
    assert [row["a"] for row in good(rows)] == [str(n) for n, ok in enumerate(kinds) if ok]
    assert [row.number for row in rows] == list(range(1, len(kinds) + 1))
    assert [row.payload for row in bad(rows)] == [
        line for line, ok in zip(lines, kinds, strict=True) if not ok
    ]


class Endless(io.RawIOBase):
    """A file that is made while it is read."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._left = self._left or next(self._parts, b"")
        part, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)


def parts(header: bytes, block: bytes, times: int) -> Iterator[bytes]:
    yield header
    for _ in range(times):
        yield block


@pytest.mark.parametrize(
    ("block", "megabytes", "rows"),
    [
        (b"%s;2\n" % (b"x" * 8188) * 128, 100, 100 * 128),  # lines
        (b"x" * (1 << 20), 100, 1),  # one line without an end
        (b'"' + b"x" * (1 << 20), 30, 1),  # a quote that stays open
    ],
)
def test_memory_is_bounded_whatever_the_size(block: bytes, megabytes: int, rows: int) -> None:
    stream = io.BufferedReader(cast(Any, Endless(parts(b"a;b\n", block, megabytes))), 1 << 20)
    tracemalloc.start()
    try:
        reader = FORMATS[".csv"].read(cast(BinaryIO, stream), DelimitedOptions(delimiter=";"))
        assert sum(1 for _ in reader) == rows
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_first_line_that_names_the_delimiter_is_left_out(encoding: str, end: str) -> None:
    content = end.join(["sep=;", "a;b", "1;2", ""]).encode(encoding)
    assert read(content, delimiter=";", encoding=encoding) == [Row(1, {"a": "1", "b": "2"})]
    assert read(b"SEP=\t\na\tb\n1\t2\n", delimiter="\t") == [Row(1, {"a": "1", "b": "2"})]
    form = FORMATS[".csv"]
    options = form.options.model_validate({"delimiter": ";", "encoding": encoding})
    assert [row.line for row in form.read(io.BytesIO(content), options)] == [3]
    with pytest.raises(UnreadableFile, match="says that its delimiter is ';'"):
        read(content, encoding=encoding)


def test_a_line_that_only_looks_like_the_delimiter_s_is_a_header_or_a_row() -> None:
    assert read(b"sep\n1\n") == [Row(1, {"sep": "1"})]
    assert read(b"a\nsep=;\n") == [Row(1, {"a": "sep=;"})]
    assert read(b"sep=,x,b\n1,2,3\n") == [Row(1, {"sep=": "1", "x": "2", "b": "3"})]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_a_byte_order_mark_in_the_middle_costs_its_row_and_no_other(encoding: str) -> None:
    text = "\ufeffa,b\n1,x\n\ufeffa,b\n2,\ufeffy\n3,z\n"
    rows = read(text.encode(encoding), encoding=encoding)
    assert good(rows) == [
        {"a": "1", "b": "x"},
        {"a": "2", "b": "\ufeffy"},  # within a value it is a character like any other
        {"a": "3", "b": "z"},
    ]
    [row] = bad(rows)
    assert row.number == 2 and "byte order mark: files were joined here" in row.reason
    assert row.payload == "\ufeffa,b".encode(encoding)
