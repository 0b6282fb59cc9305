"""What a server answers, and the names of the ways in which it does not."""

from __future__ import annotations

import email.utils
import hashlib
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from lake.errors import ServiceUnreachable, SourceError

BLOCK = 1 << 16
IN_MEMORY = 1 << 20
MOST_RETRY_SECONDS = 86_400.0
_LATER = {408, 425, 429}


class NotAnswered(ServiceUnreachable):
    """No answer, or one that says: later.

    Args:
        what: What happened.
        remedy: What the reader should do about it.
        retry_after: Seconds after which the server wants to be asked again.
    """

    def __init__(
        self, what: str, remedy: str = "It is retried.", retry_after: float | None = None
    ) -> None:
        super().__init__(what, remedy)
        self.retry_after = retry_after


class RequestRefused(SourceError):
    """An answer that stays the same until somebody changes something."""


class BodyTooLarge(Exception):
    """A body has more bytes than it may."""


class BodyBroken(Exception):
    """A body is not packed as its header says, or ends too early."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request.

    Attributes:
        url: The whole address.
        params: Added to its query.
        body: Sent as JSON.
        headers: Added to those of the client.
    """

    url: str
    params: Mapping[str, str] = field(default_factory=dict)
    method: str = "GET"
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, whose body is on disk where it is large.

    Attributes:
        url: Where it came from, as it may be shown.
        address: The same with everything in it, for links that are relative to it.
        status: 200, 204, 304 or 404.
        headers: Its headers; names in lower case.
        body: Its body, unpacked, at its start.
        size: Bytes of it.
        sha256: Its hash.
    """

    url: str
    address: str
    status: int
    headers: Mapping[str, str]
    body: BinaryIO
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Body:
    """A body as it was received."""

    content: BinaryIO
    size: int
    sha256: str


def received(raw: Any, encoding: str, most: int) -> Body:
    """Read a body to its end: unpacked, and in pieces.

    Args:
        raw: The response of urllib3.
        encoding: Its Content-Encoding.
        most: The bytes that it may have.

    Raises:
        BodyTooLarge: It has more.
        BodyBroken: It is packed in another way, or broken.
    """
    content = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - the caller's
    digest, size = hashlib.sha256(), 0
    try:
        for block in _unpacked(raw, encoding.strip().lower()):
            size += len(block)
            if size > most:
                raise BodyTooLarge
            digest.update(block)
            content.write(block)
    except BaseException:
        content.close()
        raise
    content.seek(0)
    return Body(content, size, digest.hexdigest())  # type: ignore[arg-type]


def _blocks(raw: Any) -> Iterator[bytes]:
    # read1: what is there is taken, so that a slow answer is seen as it comes
    while block := raw.read1(BLOCK, decode_content=False):
        yield block


def _unpacked(raw: Any, encoding: str) -> Iterator[bytes]:
    """Blocks of bounded size, whatever they unpack to."""
    if encoding in ("", "identity"):
        yield from _blocks(raw)
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise BodyBroken(f"its encoding {encoding!r} was not asked for")
    unpack, begun = zlib.decompressobj(zlib.MAX_WBITS | 32), False
    try:
        for block in _blocks(raw):
            while block:
                if unpack.eof:  # another member follows
                    unpack = zlib.decompressobj(zlib.MAX_WBITS | 32)
                yield unpack.decompress(block, BLOCK)
                begun = True
                block = unpack.unconsumed_tail or unpack.unused_data
    except zlib.error:
        raise BodyBroken("it is not packed as its header says") from None
    if begun and not unpack.eof:
        raise BodyBroken("it ends in the middle")


def says_later(status: int) -> bool:
    """Whether a status may be another one the next time, though nobody changes anything."""
    return status in _LATER or status >= 500


def retry_after(text: str | None) -> float | None:
    """Seconds that the header Retry-After says, as a number or as a date; None for none."""
    if not text:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MOST_RETRY_SECONDS)
    try:
        moment = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(0.0, moment - time.time()), MOST_RETRY_SECONDS)
