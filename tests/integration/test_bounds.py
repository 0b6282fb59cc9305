"""Large files and bombs of every kind: read, or refused by name, in at most 500 MB of memory."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xlwt

from tests.unit.workbooks import ods_of, packed, record, xlsb_of

MOST_MB = 500
ROWS = 250_000
TEXT = b"x" * 1000

_MEASURE = """
import json, resource, sys
from producers.files.reading import FileForm, file_rows
from producers.formats import FORMATS, BadRow, UnreadableFile
suffix, path, said = sys.argv[1:]
form = FORMATS[suffix]
packing = path[path.rindex("."):] if path.endswith((".gz", ".zip")) else ""
form = FileForm(form, packing, form.options.model_validate(json.loads(said)), (), frozenset())
good, reasons = 0, []
with open(path, "rb") as content:
    size = content.seek(0, 2)
    try:
        for row in file_rows(form, content, size):
            if isinstance(row, BadRow):
                reasons = reasons[-9:] + [row.reason]
            else:
                good += 1
    except UnreadableFile as error:
        reasons.append(str(error))
# Not its ru_maxrss, in which the memory of whoever started it counts.
status = open("/proc/self/status").read()
own = int(status.partition("VmHWM:")[2].split()[0])
child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
# A process that is started is, for a moment, as large as the one that starts it.
print(json.dumps([good, reasons, own // 1024, child // 1024]))
"""


class Read(NamedTuple):
    """What reading a file came to."""

    good: int
    reasons: list[str]
    megabytes: int


def measured(path: Path, suffix: str, options: dict[str, Any]) -> Read:
    """Read a file in a process of its own."""
    command = [sys.executable, "-c", _MEASURE, suffix, str(path), json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    good, reasons, own, child = json.loads(done.stdout)
    return Read(good, reasons, own + child)


def blocks(first: bytes, block: bytes, count: int, last: bytes) -> Iterator[bytes]:
    yield first
    for _ in range(count // 1000):
        yield block * 1000
    yield last


NAMES = [
    b"".join(b"<r><a%d/></r>" % n for n in range(at, at + 1000)) for at in range(0, 500_000, 1000)
]
JSON_ROW = b'{"id": 1, "text": "%s"},' % TEXT
LARGE: dict[str, tuple[str, dict[str, Any], Callable[[], Iterator[bytes]], int, str]] = {
    "an array of 250 MB": (
        ".json",
        {},
        lambda: blocks(b"[", JSON_ROW, ROWS, b'{"id": 2}]'),
        ROWS + 1,
        "",
    ),
    "an array of 250 MB below a path": (
        ".json",
        {"path": "data.items"},
        lambda: blocks(b'{"data": {"items": [', JSON_ROW, ROWS, b'{"id": 2}]}}'),
        ROWS + 1,
        "",
    ),
    "an array of 250 MB within one object": (
        ".json",
        {},
        lambda: blocks(b'{"data": [', JSON_ROW, ROWS, b"1]}"),
        0,
        "longer than 8,388,608 characters",
    ),
    "a path beyond a value of 250 MB": (
        ".json",
        {"path": "items"},
        lambda: blocks(b'{"data": [', JSON_ROW, ROWS, b'1], "items": [{"id": 1}]}'),
        1,
        "",
    ),
    "a text of 250 MB": (
        ".json",
        {},
        lambda: blocks(b'[{"a": "', TEXT, ROWS, b'"}, {"a": 1}]'),
        1,
        "longer than 8,388,608 characters",
    ),
    "a number of 250 MB": (
        ".json",
        {},
        lambda: blocks(b'[{"a": 1', b"1" * 1000, ROWS, b'}, {"a": 1}]'),
        1,
        "longer than 8,388,608 characters",
    ),
    "100 MB of brackets": (
        ".json",
        {},
        lambda: blocks(b"", b"[" * 1000, 100_000, b""),
        0,
        "nested more than 100,000 levels deep",
    ),
    "an object a line, all in one line of 250 MB": (
        ".ndjson",
        {},
        lambda: blocks(b'{"a": 0}\n', JSON_ROW, ROWS, b'\n{"a": 1}\n'),
        2,
        "longer than 4,194,304 characters",
    ),
    "a wrong row element": (
        ".xml",
        {},
        lambda: blocks(b"<t>", b"<other><id>%s</id></other>" % TEXT, ROWS, b"</t>"),
        0,
        "16 MB without the end of a <row>",
    ),
    "another name for each element": (
        ".xml",
        {"row_element": "r"},
        lambda: iter((b"<t>", *NAMES, b"</t>")),
        -1,
        "",
    ),
    "a text of 250 MB in XML": (
        ".xml",
        {},
        lambda: blocks(b"<t><row><a>", TEXT, ROWS, b"</a></row></t>"),
        0,
        "not well-formed",
    ),
    "an attribute of 250 MB": (
        ".xml",
        {},
        lambda: blocks(b"<t><row a='", TEXT, ROWS, b"'/></t>"),
        0,
        "16 MB without the end of a <row>",
    ),
    "a comment of 250 MB": (
        ".xml",
        {},
        lambda: blocks(b"<t><row/><!--", TEXT, ROWS, b"--></t>"),
        1,
        "16 MB without the end of a <row>",
    ),
    "a line of 250 MB": (
        ".csv",
        {},
        lambda: blocks(b"id,a\n1,", TEXT, ROWS, b"\n2,b\n"),
        1,
        "longer than 4,194,304 characters",
    ),
    "a header of 250 MB": (
        ".csv",
        {},
        lambda: blocks(b"id,", TEXT, ROWS, b"\n2,b\n"),
        0,
        "its header line cannot be read",
    ),
    "a quote that is never closed": (
        ".csv",
        {},
        lambda: blocks(b'id,a\n1,"', TEXT + b"\n", ROWS, b"2,b\n"),
        1,
        "it has 1 fields, the header has 2",
    ),
    "a line of 250 MB and fixed widths": (
        ".fwf",
        {"widths": [2, 5]},
        lambda: blocks(b"ida    \n1 ", TEXT, ROWS, b"\n2 b    \n"),
        1,
        "longer than 4,194,304 characters",
    ),
}


@pytest.mark.parametrize("name", LARGE)
def test_a_large_file_is_read_or_refused_in_bounded_memory(tmp_path: Path, name: str) -> None:
    suffix, options, content, good, reason = LARGE[name]
    path = tmp_path / f"a{suffix}"
    with path.open("wb") as file:
        for block in content():
            file.write(block)
    read = measured(path, suffix, options)
    path.unlink()
    assert read.megabytes < MOST_MB
    assert good in (-1, read.good)
    if good >= 0:
        assert reason in " ".join(read.reasons) and bool(reason) == bool(read.reasons)


# Bombs -------------------------------------------------------------------------------------------

FAR = '<table:table-row table:number-rows-repeated="1048576">{}</table:table-row>'
WIDE = '<table:table-cell table:number-columns-repeated="16384" office:value-type="{}">{}'
ENTITIES = '<!DOCTYPE t [<!ENTITY a "{}">{}]>'.format(
    "x" * 1000,
    "".join(f'<!ENTITY {name} "{f"&{before};" * 100}">' for before, name in pairwise("abcde")),
)
OOXML = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


def sheet_of(xml: str) -> bytes:
    """An .xlsx with this XML as its sheet."""
    made = io.BytesIO()
    openpyxl.Workbook().save(made)
    with zipfile.ZipFile(made) as package:
        parts = {name: package.read(name) for name in package.namelist()}
    return packed({**parts, "xl/worksheets/sheet1.xml": xml.encode()})


def ods_with_a_repeated_cell() -> bytes:
    cell = WIDE.format("string", "<text:p>x</text:p></table:table-cell>")
    return ods_of(FAR.format(cell))


def ods_with_entities() -> bytes:
    row = "<table:table-row><table:table-cell office:value-type='string'><text:p>{}</text:p>"
    return ods_of(row.format("&e;") + "</table:table-cell></table:table-row>", ENTITIES)


def ods_with_a_large_text() -> bytes:
    row = "<table:table-row><table:table-cell office:value-type='string'><text:p>{}</text:p>"
    return ods_of(row.format("x" * 400_000_000) + "</table:table-cell></table:table-row>")


def xlsx_with_entities() -> bytes:
    cell = '<c r="A1" t="inlineStr"><is><t>&e;</t></is></c>'
    return sheet_of(
        f'{ENTITIES}<worksheet xmlns="{OOXML}"><sheetData><row r="1">{cell}</row></sheetData>'
        "</worksheet>"
    )


def xlsx_with_a_large_text() -> bytes:
    cell = f'<c r="A1" t="inlineStr"><is><t>{"x" * 400_000_000}</t></is></c>'
    return sheet_of(
        f'<worksheet xmlns="{OOXML}"><sheetData><row r="1">{cell}</row></sheetData></worksheet>'
    )


def xlsx_of_more_than_a_gigabyte() -> bytes:
    made = io.BytesIO(sheet_of("<worksheet/>"))
    package = zipfile.ZipFile(made, "a", zipfile.ZIP_DEFLATED, compresslevel=1)
    with package, package.open("xl/media/image1.png", "w", force_zip64=True) as part:
        for _ in range(1100):
            part.write(b"\0" * (1 << 20))
    return made.getvalue()


def xlsb_that_promises_strings() -> bytes:
    """Its table of strings says that it has two thousand million."""
    strings = record(159, struct.pack("<2I", 2**31 - 1, 2**31 - 1)) + record(160)
    return xlsb_of(record(0, b"\0" * 17) + record(7, struct.pack("<3I", 0, 0, 5)), (1, 1), strings)


def xlsb_that_promises_cells() -> bytes:
    row = record(0, struct.pack("<I", 2**20 - 1) + b"\0" * 13)
    return xlsb_of(row + record(5, struct.pack("<2Id", 16_383, 0, 1.0)), (2**20, 2**14))


def xls_that_promises_cells() -> bytes:
    book = xlwt.Workbook()
    sheet = book.add_sheet("s")
    sheet.write(0, 0, "a")
    sheet.write(65_535, 255, 1)
    made = io.BytesIO()
    book.save(made)
    return made.getvalue()


def parquet_of(table: pa.Table, **how: Any) -> bytes:
    made = io.BytesIO()
    pq.write_table(table, made, **how)
    return made.getvalue()


def parquet_with_a_large_dictionary() -> bytes:
    words = pa.array([chr(97 + n) * 8_000_000 for n in range(26)] * 2)
    return parquet_of(
        pa.table({"a": words}),
        use_dictionary=True,
        compression="zstd",
        dictionary_pagesize_limit=1 << 30,
        write_statistics=False,
    )


def parquet_with_a_large_value() -> bytes:
    return parquet_of(
        pa.table({"a": ["x" * 400_000_000]}), compression="zstd", write_statistics=False
    )


def parquet_that_lies_about_its_rows() -> bytes:
    """400,000 rows, and a footer that says a million."""
    content = parquet_of(pa.table({"a": pa.array([1] * 400_000, pa.int8())}))
    (size,) = struct.unpack("<I", content[-8:-4])
    footer = content[-8 - size : -8]
    said = _varint(400_000)
    assert said in footer
    return content[: -8 - size] + footer.replace(said, _varint(1_048_000)) + content[-8:]


def _varint(number: int) -> bytes:
    number, made = number << 1, b""
    while number > 127:
        made += bytes([number & 127 | 128])
        number >>= 7
    return made + bytes([number])


def zip_with_a_long_list() -> bytes:
    """A million members, none of which has a byte."""
    entry = struct.pack("<4s2B4HL2L5H2L", b"PK\1\2", 20, 3, 20, *[0] * 6, *[1, 0, 0, 0, 0, 0, 0])
    listed = (entry + b"a") * 1_000_000
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65_535, 65_535, len(listed), 0, 0)
    return listed + end


def zip_in_a_zip() -> bytes:
    return packed({"inner.csv": packed({"a.csv": b"0" * 100_000_000})})


BOMBS: dict[str, tuple[str, str, Callable[[], bytes], str]] = {
    "ods: a cell that is repeated": ("ods", ".ods", ods_with_a_repeated_cell, "repeats rows to"),
    "ods: entities": ("ods", ".ods", ods_with_entities, "a document type"),
    "ods: a text of 400 MB": ("ods", ".ods", ods_with_a_large_text, "320 MB of memory"),
    "xlsx: entities": ("xlsx", ".xlsx", xlsx_with_entities, "not an XLSX workbook"),
    "xlsx: a text of 400 MB": ("xlsx", ".xlsx", xlsx_with_a_large_text, "320 MB of memory"),
    "xlsx: 1.1 GB": ("xlsx", ".xlsx", xlsx_of_more_than_a_gigabyte, "unpacks to more than"),
    "xlsb: strings": ("xlsb", ".xlsb", xlsb_that_promises_strings, "not a workbook"),
    "xlsb: cells": ("xlsb", ".xlsb", xlsb_that_promises_cells, "its header (row 1) is empty"),
    "xls: cells": ("xls", ".xls", xls_that_promises_cells, "its cell 256 has no column name"),
    "parquet: dictionary": (
        "parquet",
        ".parquet",
        parquet_with_a_large_dictionary,
        "320 MB of memory",
    ),
    "parquet: value": ("parquet", ".parquet", parquet_with_a_large_value, "320 MB of memory"),
    "parquet: rows": (
        "parquet",
        ".parquet",
        parquet_that_lies_about_its_rows,
        "400,000 rows, and its footer says 1,048,000",
    ),
    "zip: a long list": ("zip", ".csv", zip_with_a_long_list, "the list of its members"),
    "zip: a zip within it": ("zip", ".csv", zip_in_a_zip, "it is a ZIP"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_by_name_in_bounded_memory(tmp_path: Path, name: str) -> None:
    ending, suffix, made, reason = BOMBS[name]
    path = tmp_path / f"a.{ending}"
    path.write_bytes(made())
    read = measured(path, suffix, {})
    path.unlink()
    assert read.megabytes < MOST_MB
    assert reason in " ".join(read.reasons), read.reasons
