"""Where the columns of a text of fixed width begin: behind blanks that stand in every line."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from producers.files.layout import is_data

FEWEST_LINES = 2
"""In one line every blank is a gap between columns."""


def guessed_widths(lines: Sequence[str]) -> dict[str, Any]:
    """Options of the reader: `widths`, and `names` where the first line has data.

    Args:
        lines: The first lines of the file, without a last one that is cut off.

    Returns:
        Nothing where the text has no columns of fixed width.
    """
    texts = [line.rstrip("\r\n") for line in lines if line.strip()]
    if len(texts) < FEWEST_LINES or any("\t" in line for line in lines):
        return {}
    length = max(map(len, texts))
    is_gap = [all(text[at : at + 1] in ("", " ") for text in texts) for at in range(length)]
    starts = [at for at in range(1, length) if is_gap[at - 1] and not is_gap[at]]
    if is_gap[0]:
        starts = starts[1:]
    has_header = not any(map(is_data, texts[0].split()))
    if has_header:  # a gap in a name, such as of two words, divides no columns
        starts = [at for at, end in pairwise([*starts, length]) if texts[0][at:end].strip()]
    if not starts:
        return {}
    edges = [0, *starts, length]
    widths = [end - start for start, end in pairwise(edges)]
    if has_header:
        return {"widths": widths}
    return {"widths": widths, "names": [f"column_{n}" for n in range(1, len(widths) + 1)]}
