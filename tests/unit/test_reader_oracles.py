"""Fuzzed files of every format against Python's csv and json, lxml, openpyxl and calamine."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from decimal import Decimal
from typing import Any

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from producers.files.reading import FileForm, file_rows
from producers.formats import FORMATS, BadRow, Row, UnreadableFile

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)
NAMES = st.text(st.characters(codec="ascii", categories=["L"]), min_size=1, max_size=3)
NUMBERS = st.one_of(
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.decimals(allow_nan=False, allow_infinity=False, places=4),
    st.floats(allow_nan=False, allow_infinity=False),
)
# As the worker of an isolated format reads them, but without a process for each example.
FAST = [suffix for suffix in FORMATS if suffix in (".csv", ".tsv", ".json", ".ndjson", ".xml")]


def read(suffix: str, content: bytes, **options: Any) -> list[Row | BadRow]:
    form = FORMATS[suffix]
    return list(form.read(io.BytesIO(content), form.options.model_validate(options)))


def spelled(number: Any) -> str:
    return str(number) if isinstance(number, int | Decimal) else repr(number)


def same(found: Any, text: str) -> bool:
    """Whether a value is exactly the number that stands in the file."""
    shown = found if isinstance(found, str) else repr(found)
    return Decimal(shown) == Decimal(text)


@settings(deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=6))
def test_json_numbers_keep_their_value(numbers: list[Any]) -> None:
    texts = [spelled(number) for number in numbers]
    content = "[" + ",".join(f'{{"n": {text}}}' for text in texts) + "]"
    rows = read(".json", content.encode())
    for row, text in zip(rows, texts, strict=True):
        assert isinstance(row, Row) and same(row.values["n"], text)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), TEXTS, st.integers(-(2**63), 2**63 - 1)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.lists(st.dictionaries(TEXTS, JSON, max_size=4), max_size=5), st.integers(0, 3))
def test_json_is_read_as_python_reads_it(objects: list[dict[str, Any]], indent: int) -> None:
    text = json.dumps(objects, indent=indent or None, ensure_ascii=indent % 2 == 0)
    rows = read(".json", text.encode())
    assert [row.values for row in rows if isinstance(row, Row)] == objects
    lines = "\n".join(json.dumps(value) for value in objects)
    assert [
        row.values for row in read(".ndjson", lines.encode()) if isinstance(row, Row)
    ] == objects


@settings(deadline=None)
@given(
    st.lists(st.lists(TEXTS, min_size=2, max_size=2), max_size=6),
    st.sampled_from([",", ";", "\t", "||", "~|~"]),
)
def test_delimited_text_is_read_as_python_reads_it(rows: list[list[str]], delimiter: str) -> None:
    one = delimiter if len(delimiter) == 1 else "\ue000"
    rows = [[cell.replace("\ue000", "") for cell in row] for row in rows]
    text = io.StringIO()
    writer = csv.writer(text, delimiter=one, quoting=csv.QUOTE_ALL)
    writer.writerows([["a", "b"], *rows])
    content = text.getvalue().replace("\ue000", delimiter)
    found = read(".csv", content.encode(), delimiter=delimiter)
    assert [list(row.values.values()) for row in found if isinstance(row, Row)] == rows
    assert len(found) == len(rows)


XML_TEXT = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=8)


@settings(deadline=None)
@given(st.lists(st.dictionaries(NAMES, XML_TEXT, max_size=4), max_size=5))
def test_xml_is_read_as_lxml_reads_it(rows: list[dict[str, str]]) -> None:
    root = etree.Element("t")
    for values in rows:
        row = etree.SubElement(root, "ROWS9")
        for name, text in values.items():
            etree.SubElement(row, name).text = text
    content = etree.tostring(root, encoding="utf-8")
    found = read(".xml", content, row_element="ROWS9")
    assert [row.values for row in found if isinstance(row, Row)] == rows


CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(-1e15, 1e15, allow_nan=False),
    XML_TEXT.filter(lambda text: text.strip() == text and text and not text.startswith("=")),
)


@settings(deadline=None, max_examples=15)
@given(st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=4))
def test_workbooks_are_read_as_openpyxl_reads_them(rows: list[list[Any]]) -> None:
    book = openpyxl.Workbook()
    for row in [["a", "b"], *rows]:
        book.worksheets[0].append(row)
    content = io.BytesIO()
    book.save(content)
    again = openpyxl.load_workbook(content, data_only=True).worksheets[0]
    kept = [list(r) for r in again.iter_rows(min_row=2, values_only=True)]
    found = read(".xlsx", content.getvalue())
    assert all(isinstance(row, Row) for row in found)
    assert [list(r.values.values()) for r in found if isinstance(r, Row)] == [
        r for r in kept if any(cell is not None for cell in r)
    ]


# Whatever stands in a file ------------------------------------------------------------------------

SEEDS = {
    ".csv": [b'a,b\n1,"x""y"\n2,z\n', b"a;b\r\n1;2\r\n", "a,ñ\n1,2\n".encode("utf-16")],
    ".tsv": [b"a\tb\n1\t2\n"],
    ".json": [b'[{"a": 1.5e3, "b": [null, {"c": "\\u00e9"}]}]', b'{"a": {"b": []}}'],
    ".ndjson": [b'{"a": 1}\n{"b": "x"}\n'],
    ".xml": [b"<t><row id='1'><a>1</a><b c='d'/></row></t>", b"<!DOCTYPE t><t><row/></t>"],
}
PIECES = st.sampled_from(
    [b'"', b"{", b"]", b"<", b"&x;", b"\x00", b"\xff", b"\n", b",", b"\\", b"9"]
)


@st.composite
def damaged(draw: Any) -> tuple[str, bytes]:
    """A file of some format with a few bytes changed, lost, doubled or put in."""
    suffix = draw(st.sampled_from(FAST))
    content = bytearray(draw(st.sampled_from(SEEDS[suffix])))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(content)))
        piece = draw(st.one_of(PIECES, st.binary(max_size=3)))
        content[at : at + draw(st.integers(0, 3))] = piece
    return suffix, bytes(content)


@settings(deadline=None, max_examples=400)
@given(damaged(), st.sampled_from(["", ".gz", ".zip"]))
def test_no_damage_ends_in_anything_but_rows_and_named_refusals(
    file: tuple[str, bytes], packing: str
) -> None:
    suffix, content = file
    options = FORMATS[suffix].options()
    form = FileForm(FORMATS[suffix], packing, options, (), frozenset())
    try:
        rows = list(file_rows(form, io.BytesIO(content), len(content)))
    except UnreadableFile as refused:
        assert str(refused) and "reader failed" not in str(refused)
        return
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    count = FORMATS[suffix].count
    if not packing and count is not None:
        good = sum(not isinstance(row, BadRow) for row in rows)
        assert count(io.BytesIO(content), options) == good


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 2**32), st.integers(1, 40))
@pytest.mark.parametrize("suffix", [".xlsx", ".parquet"])
def test_damaged_workbooks_and_parquet_files_are_refused_or_read(
    suffix: str, seed: int, changes: int
) -> None:
    import random

    import pyarrow as pa
    import pyarrow.parquet as pq

    made = io.BytesIO()
    if suffix == ".xlsx":
        openpyxl.Workbook().save(made)
    else:
        pq.write_table(pa.table({"a": [1, 2, 3], "b": ["x", "y", None]}), made)
    content, dice = bytearray(made.getvalue()), random.Random(seed)
    for _ in range(changes):
        content[dice.randrange(len(content))] = dice.randrange(256)
    try:
        read(suffix, bytes(content))
    except UnreadableFile as refused:
        assert "Traceback" not in str(refused)


def test_a_member_of_an_archive_cannot_lie_about_its_size() -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr("a.csv", b"id\n" + b"1\n" * 1000)
    content = bytearray(made.getvalue())
    size = (2003).to_bytes(4, "little")
    for _ in range(content.count(size)):
        at = content.index(size)
        content[at : at + 4] = (7).to_bytes(4, "little")
    form = FileForm(FORMATS[".csv"], ".zip", FORMATS[".csv"].options(), (), frozenset())
    *_, last = file_rows(form, io.BytesIO(bytes(content)), len(content))
    assert isinstance(last, BadRow) and "its member a.csv" in last.reason
