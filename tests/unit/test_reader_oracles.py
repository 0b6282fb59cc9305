"""Fuzzed files of every format against Python's csv and json, lxml, openpyxl and calamine."""

from __future__ import annotations

import base64
import csv
import io
import json
import random
import re
import zipfile
from decimal import Decimal
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from producers.files.reading import FileForm, file_rows
from producers.formats import FORMATS, BadRow, Row, UnreadableFile
from tests.unit import workbooks

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)
NAMES = st.text(st.characters(codec="ascii", categories=["L"]), min_size=1, max_size=3)
NUMBERS = st.one_of(
    st.builds("{}e{}".format, st.integers(-(10**20), 10**20), st.integers(-(10**25), 10**25)),
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.decimals(allow_nan=False, allow_infinity=False, places=4),
    st.floats(allow_nan=False, allow_infinity=False),
)
# As the worker of an isolated format reads them, but without a process for each example.
FAST = [".csv", ".fwf", ".json", ".ndjson", ".tsv", ".txt", ".xml"]


def read(suffix: str, content: bytes, **options: Any) -> list[Row | BadRow]:
    form = FORMATS[suffix]
    return list(form.read(io.BytesIO(content), form.options.model_validate(options)))


def spelled(number: Any) -> str:
    return (
        number
        if isinstance(number, str)
        else str(number) if isinstance(number, int | Decimal) else repr(number)
    )


def same(found: Any, text: str) -> bool:
    """Whether a value is exactly the number that stands in the file."""
    shown = found if isinstance(found, str) else repr(found)
    if shown == text:
        return True
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


RAW = st.text(st.sampled_from('ab,;"\n\r\t \\'), max_size=30)


@settings(deadline=None, max_examples=300)
@given(RAW, st.sampled_from([".csv", ".txt", ".tsv"]), st.sampled_from(["\n", "\r\n"]))
def test_whatever_stands_in_a_text_is_read_as_python_reads_it(
    raw: str, suffix: str, end: str
) -> None:
    mark = "\t" if suffix == ".tsv" else ","
    text = f"h{mark}i{end}{raw}"
    found = read(suffix, text.encode())
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True))
    except csv.Error:
        assert any(isinstance(row, BadRow) for row in found)
        return
    kept = [row for row in rows[1:] if row]
    assert len(found) == len(kept)
    for row, cells in zip(found, kept, strict=True):
        cells = cells[:2] if len(cells) == 3 and not cells[2].strip() else cells
        if len(cells) == 2:
            assert isinstance(row, Row) and list(row.values.values()) == cells
        else:
            assert isinstance(row, BadRow) and "fields" in row.reason


@settings(deadline=None)
@given(
    st.lists(st.tuples(TEXTS, TEXTS), max_size=6),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.booleans(),
)
def test_fixed_widths_are_cut_as_python_cuts_them(
    rows: list[tuple[str, str]], widths: tuple[int, int], trim: bool
) -> None:
    lines = ["".join(c.ljust(w)[:w] for c, w in zip(row, widths, strict=True)) for row in rows]
    lines = [line for line in lines if line.strip() and len(line.splitlines()) == 1]
    lines = [line for line in lines if not set("\r\n") & set(line)]
    found = read(
        ".fwf", "\n".join(lines).encode(), widths=list(widths), names=["a", "b"], trim=trim
    )
    cut = [(line[: widths[0]], line[widths[0] :]) for line in lines]
    expected = [[c.strip() if trim else c for c in cells] for cells in cut]
    assert [list(row.values.values()) for row in found if isinstance(row, Row)] == expected
    assert len(found) == len(expected)


def read_here(suffix: str, content: bytes) -> list[Row | BadRow]:
    with pytest.MonkeyPatch.context() as patch:
        for module in ("spreadsheet", "parquet"):
            patch.setattr(f"producers.formats.{module}.isolated_lines", workbooks.in_this_process)
        return read(suffix, content)


@settings(deadline=None)
@given(
    st.sampled_from([".xls", ".xlsb", ".ods"]),
    st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=4),
)
def test_other_workbooks_are_read_as_they_were_written(suffix: str, rows: list[list[Any]]) -> None:
    # Of the characters that no calamine reads from an .ods: a space is one, however wide.
    if suffix == ".ods":
        rows = [[" ".join(c.split()) if isinstance(c, str) else c for c in row] for row in rows]
    make = {".xls": workbooks.xls, ".xlsb": workbooks.xlsb, ".ods": workbooks.ods}[suffix]
    found = read_here(suffix, make([["a", "b"], *rows]))
    assert all(isinstance(row, Row) for row in found)
    assert [list(r.values.values()) for r in found if isinstance(r, Row)] == [
        row for row in rows if any(cell is not None for cell in row)
    ]


MICROS = st.integers(-(2**55), 2**55)
NANOS = st.integers(-(2**62), 2**62)
COLUMNS: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.int8(): st.integers(-128, 127),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float64(): st.floats(allow_nan=False),
    pa.float32(): st.floats(width=32, allow_nan=False),
    pa.string(): TEXTS,
    pa.large_string(): TEXTS,
    pa.binary(): st.binary(max_size=6),
    pa.bool_(): st.booleans(),
    pa.decimal128(38, 9): st.decimals(-(10**28), 10**28, places=9),
    pa.decimal256(50, 2): st.decimals(-(10**40), 10**40, places=2),
    pa.date32(): st.dates(),
    pa.time64("ns"): st.integers(0, 86_399_999_999_999),
    pa.timestamp("us"): MICROS,
    pa.timestamp("ns"): NANOS,
    pa.timestamp("ns", "UTC"): NANOS,
    # Before 1930 its offset has seconds, which pyarrow does not read.
    pa.timestamp("us", "America/Argentina/Buenos_Aires"): st.integers(-(2**50), 2**55),
    pa.duration("ns"): NANOS,
    pa.list_(pa.int32()): st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
    pa.list_(pa.timestamp("ns")): st.lists(NANOS, max_size=2),
    pa.struct({"n": pa.uint64(), "at": pa.timestamp("ns")}): st.fixed_dictionaries(
        {"n": st.integers(0, 2**64 - 1), "at": NANOS}
    ),
    pa.map_(pa.string(), pa.int64()): st.dictionaries(TEXTS, MICROS, max_size=2),
    pa.dictionary(pa.int32(), pa.string()): TEXTS,
}


def says(found: Any, value: Any, type_: pa.DataType) -> bool:
    """Whether what was read is exactly that value."""
    types = pa.types
    if value is None:
        return found is None
    if types.is_dictionary(type_):
        return says(found, value, type_.value_type)
    if types.is_list(type_):
        return len(found) == len(value) and all(
            says(f, v, type_.value_type) for f, v in zip(found, value, strict=True)
        )
    if types.is_struct(type_):
        return all(says(found[f.name], value[f.name], f.type) for f in type_)
    if types.is_map(type_):
        pairs = [(key, inner) for key, inner in found]
        return pairs == list(value.items())
    if types.is_timestamp(type_):
        return bool(pa.array([found]).cast(type_)[0].value == value)
    if types.is_time(type_):
        found += ".0" if "." not in found else ""
    if types.is_duration(type_) or types.is_time(type_):
        sign, hours, minutes, seconds = DURATION.fullmatch(found).groups()  # type: ignore[union-attr]
        nanos = (int(hours) * 3600 + int(minutes) * 60) * 10**9 + int(Decimal(seconds) * 10**9)
        return bool((-nanos if sign else nanos) == value)
    if types.is_decimal(type_) or types.is_integer(type_):
        return Decimal(str(found)) == Decimal(value)
    if types.is_floating(type_):
        return bool(float(found) == value)
    if types.is_binary(type_):
        return bool(base64.b64decode(found) == value)
    if types.is_date(type_):
        return bool(found == value.isoformat())
    return bool(found == value and type(found) is type(value))


DURATION = re.compile(r"(-?)(\d+):(\d\d):(\d\d(?:\.\d+)?)")


@settings(deadline=None, max_examples=300)
@given(st.data(), st.sampled_from(list(COLUMNS)))
def test_parquet_says_exactly_what_pyarrow_wrote(data: Any, type_: pa.DataType) -> None:
    values = data.draw(st.lists(st.one_of(st.none(), COLUMNS[type_]), min_size=1, max_size=4))
    made = io.BytesIO()
    inner = type_.value_type if pa.types.is_dictionary(type_) else type_
    column = pa.array(values, inner)
    pq.write_table(pa.table({"a": column.cast(type_)}), made, store_schema=True)
    found = read_here(".parquet", made.getvalue())
    assert len(found) == len(values)
    for row, value in zip(found, values, strict=True):
        assert isinstance(row, Row) and says(row.values["a"], value, type_), (row, value)


# Whatever stands in a file ------------------------------------------------------------------------

SEEDS = {
    ".csv": [b'a,b\n1,"x""y"\n2,z\n', b"a;b\r\n1;2\r\n", "a,ñ\n1,2\n".encode("utf-16")],
    ".fwf": [b"ab \n1zz\n2\n"],
    ".tsv": [b"a\tb\n1\t2\n"],
    ".txt": [b"a,b\n1,2\n"],
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
    widths = {"widths": [1, 2]} if suffix == ".fwf" else {}
    options = FORMATS[suffix].options.model_validate(widths)
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


BOOK: list[list[Any]] = [["id", "word", "n"], [1, "uno", 2.5], [2, None, True], [None, "ñandú", -7]]


def whole_file(suffix: str) -> bytes:
    """A good file of a format that a process of its own reads."""
    if suffix == ".xlsx":
        return workbooks.xlsx_of("<row><c><v>1</v></c></row>")
    if suffix == ".parquet":
        made = io.BytesIO()
        pq.write_table(pa.table({"a": [1, 2, 3], "b": ["x", "y", None]}), made)
        return made.getvalue()
    make = {".xls": workbooks.xls, ".xlsb": workbooks.xlsb, ".ods": workbooks.ods}[suffix]
    return make(BOOK)


def changed(content: bytes, dice: random.Random, changes: int) -> bytes:
    """A few bytes are others, gone, or new; now and then the rest is cut off."""
    found = bytearray(content)
    for _ in range(changes):
        at = dice.randrange(len(found) + 1)
        gone = dice.choice([0, 1, 1, 1, 4, 4, len(found)])
        found[at : at + gone] = dice.randbytes(dice.choice([0, 1, 1, 3]))
    return bytes(found)


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 2**32), st.integers(1, 12), st.booleans())
@pytest.mark.parametrize("suffix", [".xlsx", ".xls", ".xlsb", ".ods", ".parquet"])
def test_damaged_workbooks_and_parquet_files_are_refused_or_read(
    suffix: str, seed: int, changes: int, is_within: bool
) -> None:
    """Damage within a part of a package, too: its checksum fits then."""
    content, dice = whole_file(suffix), random.Random(seed)
    if is_within and suffix not in (".xls", ".parquet"):
        with zipfile.ZipFile(io.BytesIO(content)) as package:
            parts = {name: package.read(name) for name in package.namelist()}
        name = dice.choice(sorted(parts))
        content = workbooks.packed({**parts, name: changed(parts[name], dice, changes)})
    else:
        content = changed(content, dice, changes)
    try:
        read(suffix, content)
    except UnreadableFile as refused:
        assert "Traceback" not in str(refused) and "reader failed" not in str(refused)


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
