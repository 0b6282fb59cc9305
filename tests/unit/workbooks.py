"""Small workbooks of the kinds that openpyxl does not write."""

from __future__ import annotations

import contextlib
import io
import json
import re
import struct
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import openpyxl
import xlwt

from producers.isolated import parquet, workbook
from producers.isolated.output import Refused, emit


def in_this_process(kind: str, stream: Any, options: dict[str, Any]) -> Iterator[list[Any]]:
    """What the process of its own would say, without the time that it takes to start."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            (parquet if kind == "parquet" else workbook).read(stream, options)
        except Refused as refused:
            emit("refused", *refused.args)
    yield from map(json.loads, said.getvalue().splitlines())


Rows = Sequence[Sequence[Any]]
_TYPES = "http://schemas.openxmlformats.org/package/2006/content-types"
_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
_DOCUMENT = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_BINARY = "application/vnd.ms-excel.sheet.binary.macroEnabled.main"
_ODF = "urn:oasis:names:tc:opendocument:xmlns"
_ODS = "application/vnd.oasis.opendocument.spreadsheet"


def packed(parts: dict[str, bytes]) -> bytes:
    """A package of these parts."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in parts.items():
            package.writestr(name, content)
    return made.getvalue()


def xls(rows: Rows) -> bytes:
    """An .xls: BIFF8, as of Excel 97."""
    book = xlwt.Workbook(encoding="utf-8")
    sheet = book.add_sheet("s")
    for y, row in enumerate(rows):
        for x, cell in enumerate(row):
            if cell is not None:
                sheet.write(y, x, cell)
    made = io.BytesIO()
    book.save(made)
    return made.getvalue()


def xlsx_of(rows: str, strings: str = "", book: str = "", part: str = "") -> bytes:
    """An .xlsx with this XML in its sheet.

    Args:
        rows: The rows. Style 1 is a date, 2 a date with its time, 3 a duration.
        strings: Its shared strings.
        book: What its workbook says besides.
        part: The name of another part that the package has, and that is broken.
    """
    made = openpyxl.Workbook()
    if part == "chart":
        made.create_chartsheet("Chart", 0)
    sheet = made.worksheets[0]
    sheet.title = "s"
    for column, style in enumerate(("yyyy-mm-dd", "yyyy-mm-dd hh:mm:ss", "[h]:mm:ss"), 1):
        sheet.cell(1, column, "x").number_format = style
    content = io.BytesIO()
    made.save(content)
    parts: dict[str, bytes] = {}
    with zipfile.ZipFile(content) as package:
        for name in package.namelist():
            parts[name] = package.read(name)
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    text = f"<worksheet {main}><sheetData>{rows}</sheetData></worksheet>"
    parts["xl/worksheets/sheet1.xml"] = text.encode()
    parts["xl/sharedStrings.xml"] = f"<sst {main}>{strings}</sst>".encode()
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
    types = "[Content_Types].xml"
    if b"sharedStrings" not in parts[types]:
        more = f'<Override PartName="/xl/sharedStrings.xml" ContentType="{kind}"/></Types>'
        parts[types] = parts[types].replace(b"</Types>", more.encode())
    said = re.sub(rb"<calcPr[^>]*>", book.encode(), parts["xl/workbook.xml"])
    parts["xl/workbook.xml"] = said
    if part and part != "chart":
        parts[part] = b"<broken"
    return packed(parts)


# OpenDocument ------------------------------------------------------------------------------------


def ods(rows: Rows) -> bytes:
    """An .ods."""
    return ods_of(
        "".join(
            "<table:table-row>" + "".join(map(_ods_cell, row)) + "</table:table-row>"
            for row in rows
        )
    )


def ods_of(table: str, head: str = "") -> bytes:
    """An .ods with this XML in its table."""
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?>{head}<office:document-content'
        f' xmlns:office="{_ODF}:office:1.0" xmlns:table="{_ODF}:table:1.0"'
        f' xmlns:text="{_ODF}:text:1.0"><office:body><office:spreadsheet>'
        f'<table:table table:name="s">{table}</table:table>'
        "</office:spreadsheet></office:body></office:document-content>"
    )
    manifest = f'<?xml version="1.0"?><manifest:manifest xmlns:manifest="{_ODF}:manifest:1.0"/>'
    return packed(
        {
            "mimetype": _ODS.encode(),
            "content.xml": text.encode(),
            "META-INF/manifest.xml": manifest.encode(),
        }
    )


def _ods_cell(cell: Any) -> str:
    match cell:
        case None:
            return "<table:table-cell/>"
        case bool():
            said = str(cell).lower()
            return (
                f'<table:table-cell office:value-type="boolean" office:boolean-value="{said}">'
                f"<text:p>{said}</text:p></table:table-cell>"
            )
        case int() | float():
            return (
                f'<table:table-cell office:value-type="float" office:value="{cell!r}">'
                f"<text:p>{cell!r}</text:p></table:table-cell>"
            )
        case _:
            paragraphs = "".join(f"<text:p>{escape(p)}</text:p>" for p in str(cell).split("\n"))
            return (
                '<table:table-cell office:value-type="string">' f"{paragraphs}</table:table-cell>"
            )


# Binary workbooks --------------------------------------------------------------------------------


def record(number: int, data: bytes = b"") -> bytes:
    """A record of BIFF12: its number and its size in groups of seven bits."""
    head = bytes([number]) if number < 128 else bytes([number & 127 | 128, number >> 7])
    size = len(data)
    while size > 127:
        head += bytes([size & 127 | 128])
        size >>= 7
    return head + bytes([size]) + data


def wide(text: str) -> bytes:
    """A text with its length."""
    encoded = text.encode("utf-16-le")
    return struct.pack("<I", len(encoded) // 2) + encoded


def xlsb(rows: Rows) -> bytes:
    """An .xlsb."""
    return xlsb_of(
        b"".join(
            record(0, struct.pack("<I", y) + b"\0" * 13)
            + b"".join(_xlsb_cell(x, cell) for x, cell in enumerate(row))
            for y, row in enumerate(rows)
        ),
        (max(len(rows), 1), max(map(len, rows), default=1)),
    )


def xlsb_styles(form: int) -> bytes:
    """Two styles: none, and one of Excel's own formats, of which 14 is a date."""
    kinds = b"".join(record(47, struct.pack("<2H", 0, n) + b"\0" * 12) for n in (0, form))
    return record(278) + record(617, struct.pack("<I", 2)) + kinds + record(618) + record(279)


def xlsb_of(
    data: bytes,
    size: tuple[int, int] = (1, 1),
    strings: bytes | None = None,
    styles: bytes | None = None,
) -> bytes:
    """An .xlsb with these records in its sheet.

    Args:
        data: The records.
        size: How many rows and columns it says that it has.
        strings: Its part of shared strings.
        styles: Its part of styles.
    """
    sheet = record(129) + record(148, struct.pack("<4I", 0, size[0] - 1, 0, size[1] - 1))
    sheet += record(145) + data + record(146) + record(130)
    bundle = struct.pack("<2I", 0, 1) + wide("rId1") + wide("s")
    book = record(131) + record(143) + record(156, bundle) + record(144) + record(132)
    targets = {"rId1": ("worksheet", "worksheets/sheet1.bin")}
    parts = {"xl/workbook.bin": book, "xl/worksheets/sheet1.bin": sheet}
    if strings is not None:
        targets["rId2"] = ("sharedStrings", "sharedStrings.bin")
        parts["xl/sharedStrings.bin"] = strings
    if styles is not None:
        targets["rId3"] = ("styles", "styles.bin")
        parts["xl/styles.bin"] = styles
    types = (
        f'<?xml version="1.0"?><Types xmlns="{_TYPES}"><Default Extension="bin"'
        f' ContentType="{_BINARY}"/></Types>'
    )
    return packed(
        {
            "[Content_Types].xml": types.encode(),
            "_rels/.rels": _relations({"rId1": ("officeDocument", "xl/workbook.bin")}),
            "xl/_rels/workbook.bin.rels": _relations(targets),
            **parts,
        }
    )


def _relations(targets: dict[str, tuple[str, str]]) -> bytes:
    entries = "".join(
        f'<Relationship Id="{name}" Type="{_DOCUMENT}/{kind}" Target={quoteattr(target)}/>'
        for name, (kind, target) in targets.items()
    )
    whole = f'<Relationships xmlns="{_RELATIONS}">{entries}</Relationships>'
    return f'<?xml version="1.0"?>{whole}'.encode()


def _xlsb_cell(x: int, cell: Any) -> bytes:
    head = struct.pack("<2I", x, 0)
    match cell:
        case None:
            return record(1, head)
        case bool():
            return record(4, head + bytes([cell]))
        case int() | float():
            return record(5, head + struct.pack("<d", cell))
        case _:
            return record(6, head + wide(str(cell)))
