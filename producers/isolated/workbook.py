"""Workbooks of every kind: the content decides which, not the suffix."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO

from producers.isolated.output import Found, Refused, emit
from producers.isolated.strict import transitional

MAX_UNPACKED = 1024 * 1024 * 1024
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_PARTS = (("xl/workbook.xml", "xlsx"), ("xl/workbook.bin", "xlsb"), ("content.xml", "ods"))


def read(stream: BinaryIO, options: dict[str, Any]) -> None:
    """Hand out the cells of one sheet, with the numbers of its rows.

    Raises:
        Refused: It is no workbook, is protected by a password, or has no such sheet.
    """
    kind = _kind(stream)
    stream.seek(0)
    for number, cells, wrong in _rows_of(kind)(stream, options["sheet"]):
        if wrong:
            emit("bad", number, cells, f"its cell {wrong}")
        elif any(cell is not None for cell in cells):
            emit("cells", number, cells)


def _rows_of(kind: str) -> Callable[[BinaryIO, str | int], Found]:
    """Its reader, whose libraries are loaded only then."""
    if kind == "xlsx":
        from producers.isolated import xlsx

        return lambda stream, wanted: xlsx.rows(transitional(stream), wanted)
    if kind == "xls":
        from producers.isolated import xls

        return xls.rows
    if kind == "xlsb":
        from producers.isolated import xlsb

        return xlsb.rows
    from producers.isolated import opendocument

    return opendocument.rows


def _kind(stream: BinaryIO) -> str:
    start = stream.read(8)
    if start.startswith(OLE):
        _refuse_encrypted(stream)
        return "xls"
    if not start.startswith(b"PK"):
        raise Refused(_what_it_is(start + stream.read(512)), "Set `format` to what it is.")
    try:
        with zipfile.ZipFile(stream) as package:
            parts = {part.filename: part for part in package.infolist()}
            if sum(part.file_size for part in parts.values()) > MAX_UNPACKED:
                raise Refused(f"it unpacks to more than {MAX_UNPACKED >> 20} MB", "")
            if any(part.flag_bits & 1 for part in parts.values()):
                raise Refused("it is protected by a password", "Ask for it without one.")
            for part, kind in _PARTS:
                if any(name.lower() == part for name in parts):
                    return kind
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError) as error:
        raise Refused(f"it is damaged, or not a workbook ({type(error).__name__})", "") from None
    raise Refused("it is not a workbook, but another ZIP", "Set `format` to what it is.")


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
