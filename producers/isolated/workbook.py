"""Workbooks: openpyxl streams .xlsx exactly, python-calamine reads .xls, .xlsb and .ods.

The content decides, not the suffix.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any, BinaryIO

from producers.isolated.output import Refused, emit, plain
from producers.isolated.strict import transitional

MAX_UNPACKED = 1024 * 1024 * 1024
MOST_COLUMNS = 16_384
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_FORMULA = re.compile(rb"<(?:\w+:)?f[\s>/]")


def read(stream: BinaryIO, options: dict[str, Any]) -> None:
    """Hand out the cells of one sheet, with the numbers of its rows.

    Raises:
        Refused: It is no workbook, is protected by a password, or has no such sheet.
    """
    rows = _openpyxl if _is_xlsx(stream) else _calamine
    stream.seek(0)
    for number, cells, missing in rows(stream, options["sheet"]):
        if missing:
            reason = (
                f"its cell {missing} is a formula without a stored value: open the workbook in a"
                " spreadsheet program and save it"
            )
            emit("bad", number, cells, reason)
        elif any(cell is not None for cell in cells):
            emit("cells", number, cells)


def _is_xlsx(stream: BinaryIO) -> bool:
    start = stream.read(8)
    if start.startswith(OLE):
        _refuse_encrypted(stream)
        return False
    if not start.startswith(b"PK"):
        raise Refused(_what_it_is(start + stream.read(512)), "Set `format` to what it is.")
    try:
        with zipfile.ZipFile(stream) as package:
            parts = {part.filename: part for part in package.infolist()}
            if sum(part.file_size for part in parts.values()) > MAX_UNPACKED:
                raise Refused(f"it unpacks to more than {MAX_UNPACKED >> 20} MB", "")
            if any(part.flag_bits & 1 for part in parts.values()):
                raise Refused("it is protected by a password", "Ask for it without one.")
            return any(name.lower() == "xl/workbook.xml" for name in parts)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError) as error:
        raise Refused(f"it is damaged, or not a workbook ({type(error).__name__})", "") from None


def _refuse_encrypted(stream: BinaryIO) -> None:
    before = b""
    stream.seek(0)
    while block := stream.read(1 << 20):
        if ENCRYPTED in before + block:
            raise Refused("it is protected by a password", "Ask for it without one.")
        before = block[-64:]


def _what_it_is(start: bytes) -> str:
    head = start.lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if head.startswith((b"<html", b"<!doctype html", b"<table")):
        return "it is not a workbook, but HTML"
    if head.startswith(b"<?xml"):
        return "it is not a workbook, but XML (Excel 2003 writes it so)"
    if b"\0" not in head and head:
        return "it is not a workbook, but text"
    return "it is not a workbook"


# openpyxl ----------------------------------------------------------------------------------------

Found = Iterator[tuple[int, list[Any], str]]


def _openpyxl(stream: BinaryIO, wanted: str | int) -> Found:
    import openpyxl

    try:
        stream = transitional(stream)
        book = openpyxl.load_workbook(stream, read_only=True, data_only=True)
        sheet = _chosen(book.worksheets, [sheet.title for sheet in book.worksheets], wanted)
        # Some programs write a wrong size into the file, and rows would be cut to it.
        sheet.reset_dimensions()
        formulas: Any = ()
        if _has_formulas(stream):
            other = openpyxl.load_workbook(stream, read_only=True, data_only=False)
            formulas = other[sheet.title]
            formulas.reset_dimensions()
            formulas = formulas.iter_rows()
        values = sheet.iter_rows(values_only=True)
        for number, (cells, held) in enumerate(zip_longest(values, formulas, fillvalue=()), 1):
            missing = ""
            for cell, formula in zip(cells, held, strict=False):
                if cell is None and formula.data_type == "f":
                    missing = formula.coordinate
            yield number, list(map(plain, cells)), missing
    except (Refused, MemoryError):
        raise
    except Exception as error:
        # openpyxl names no errors of its own: whatever is wrong inside comes as any of a dozen.
        raise Refused(f"it is not an XLSX workbook ({type(error).__name__})", "") from None


def _has_formulas(stream: BinaryIO) -> bool:
    with zipfile.ZipFile(stream) as package:
        for name in package.namelist():
            if not name.startswith("xl/worksheets/"):
                continue
            before = b""
            with package.open(name) as part:
                while block := part.read(1 << 20):
                    if _FORMULA.search(before + block):
                        return True
                    before = block[-16:]
    return False


def _chosen(sheets: Any, names: list[str], wanted: str | int) -> Any:
    """A sheet by name, or by number from 1."""
    if isinstance(wanted, str) and wanted in names:
        return sheets[names.index(wanted)]
    if isinstance(wanted, int) and 1 <= wanted <= len(names):
        return sheets[wanted - 1]
    listed = ", ".join(repr(name) for name in names[:20])
    raise Refused(f"it has no sheet {wanted!r}", f"Its sheets: {listed}.")


# calamine ----------------------------------------------------------------------------------------


def _calamine(stream: BinaryIO, wanted: str | int) -> Found:
    import python_calamine

    try:
        book = python_calamine.CalamineWorkbook.from_filelike(stream)
        names = book.sheet_names
        sheet = book.get_sheet_by_name(_chosen(names, names, wanted))
        if sheet.total_width > MOST_COLUMNS:
            raise Refused(f"it has {sheet.total_width:,} columns", "")
        for number, cells in enumerate(sheet.iter_rows(), 1):
            yield number, [None if cell == "" else plain(cell) for cell in cells], ""
    except (Refused, MemoryError, GeneratorExit):
        raise
    except python_calamine.PasswordError:
        raise Refused("it is protected by a password", "Ask for it without one.") from None
    except BaseException as error:  # a panic in Rust is no Exception
        raise Refused(f"it is not a workbook ({type(error).__name__})", "") from None
