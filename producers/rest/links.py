"""The header `Link` (RFC 8288)."""

from __future__ import annotations

import re

_TOKEN = r"[\w!#$%&'*+.^`|~-]+"
_VALUE = r'"(?:[^"\\]|\\.)*"|[^\s",;<>]+'
_PARAMETER = re.compile(rf"\s*;\s*({_TOKEN})(?:\s*=\s*({_VALUE}))?")
_ADDRESS = re.compile(r"<([^>]*)>")


def next_link(header: str) -> str | None:
    """The address with `rel="next"` in a header `Link`; of several, the first."""
    at = 0
    while (address := _ADDRESS.search(header, at)) is not None:
        at, relation = address.end(), None
        while (parameter := _PARAMETER.match(header, at)) is not None:
            at = parameter.end()
            if parameter[1].lower() == "rel" and relation is None:  # a second one does not count
                relation = (parameter[2] or "").strip('"')
        if "next" in (relation or "").lower().split():
            return address[1]
    return None
