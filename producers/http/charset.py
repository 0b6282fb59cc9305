"""A body in UTF-8, whatever charset its Content-Type says."""

from __future__ import annotations

import codecs
import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from email.message import Message
from typing import BinaryIO

from producers.http.answer import BLOCK, IN_MEMORY, Body

_UNICODE = frozenset({"utf-8", "utf_8_sig", "utf-8-sig"})
_ASSUMED = frozenset({"ascii", "iso8859-1", "cp1252"})
"""What servers say by themselves of anything: what is UTF-8 all the same stays so."""
_BOMS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)


def in_utf8(body: Body, content_type: str) -> Body:
    """The same text in UTF-8; the same bytes where that is not told, or not true.

    XML stays as it is: it names its encoding itself. A byte order mark counts more than the header.

    Args:
        body: The body, at its start; it is closed where another one is handed out.
        content_type: The header of its answer.
    """
    charset = _charset(content_type)
    if not charset or charset in _UNICODE:
        return body
    start = body.content.read(4)
    body.content.seek(0)
    if start.startswith(_BOMS):
        return body
    if charset in _ASSUMED and _is_valid(body.content, "utf-8"):
        return body
    if charset.startswith(("utf-16", "utf-32")) and b"\0" not in start:
        return body  # it begins with a letter of ASCII, which has a NUL in these
    if charset in ("utf-16", "utf-32"):
        charset += "-be" if start[:1] == b"\0" else "-le"
    if charset == "ascii" or not _is_valid(body.content, charset):
        return body  # each record says so that has such a byte
    return _written(body, charset)


def _charset(content_type: str) -> str:
    """Python's name of the charset of a text that names none itself."""
    message = Message()
    message["Content-Type"] = content_type
    if message.get_content_subtype() == "xml" or message.get_content_subtype().endswith("+xml"):
        return ""
    with suppress(LookupError, ValueError, UnicodeError):
        info = codecs.lookup(str(message.get_param("charset") or "").strip())
        return info.name if info._is_text_encoding else ""
    return ""


def _texts(content: BinaryIO, charset: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(charset)()
    while block := content.read(BLOCK):
        yield decoder.decode(block)
    yield decoder.decode(b"", True)


def _is_valid(content: BinaryIO, charset: str) -> bool:
    try:
        for _ in _texts(content, charset):
            pass
    except UnicodeError:
        return False
    finally:
        content.seek(0)
    return True


def _written(body: Body, charset: str) -> Body:
    made = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - it is handed out
    digest, size = hashlib.sha256(), 0
    with body.content as content:
        for text in _texts(content, charset):
            block = text.encode("utf-8", "surrogatepass")
            digest.update(block)
            size += made.write(block)
    made.seek(0)
    return Body(made, size, digest.hexdigest())  # type: ignore[arg-type]
