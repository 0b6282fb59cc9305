"""Workbooks in the strict variant of the standard: the same under other names."""

from __future__ import annotations

import tempfile
import zipfile
from typing import BinaryIO, cast

_STRICT = b"http://purl.oclc.org/ooxml/"
_NAMES = (
    (b"spreadsheetml/main", b"http://schemas.openxmlformats.org/spreadsheetml/2006/main"),
    (
        b"officeDocument/relationships",
        b"http://schemas.openxmlformats.org/officeDocument/2006/relationships",
    ),
)
_BLOCK = 1 << 20


def transitional(stream: BinaryIO) -> BinaryIO:
    """A workbook as openpyxl knows it: itself, or a copy with the usual names of namespaces."""
    with zipfile.ZipFile(stream) as package:
        book = next(n for n in package.namelist() if n.lower() == "xl/workbook.xml")
        with package.open(book) as part:
            if _STRICT not in part.read(65_536):
                stream.seek(0)
                return stream
        made = tempfile.TemporaryFile()  # noqa: SIM115 - it is handed out
        with zipfile.ZipFile(made, "w") as target:
            for name in package.namelist():
                with package.open(name) as part, target.open(name, "w") as to:
                    _copy(
                        cast(BinaryIO, part), cast(BinaryIO, to), name.endswith((".xml", ".rels"))
                    )
    made.seek(0)
    return cast(BinaryIO, made)


def _copy(source: BinaryIO, target: BinaryIO, is_xml: bool) -> None:
    held = b""
    while block := source.read(_BLOCK):
        held += block
        if not is_xml:
            target.write(held)
            held = b""
            continue
        held = _renamed(held)
        target.write(held[:-200])  # a name may go on in the next block
        held = held[-200:]
    target.write(_renamed(held) if is_xml else held)


def _renamed(text: bytes) -> bytes:
    for old, new in _NAMES:
        text = text.replace(_STRICT + old, new)
    return text
