"""Text that is safe to show: no control character of the data reaches a terminal or a page."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with every control character escaped, line breaks and tabs left as they are."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)
