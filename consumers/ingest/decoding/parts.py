"""A batch in parts of bounded size: what one query decodes at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from confluent_kafka import Message

VECTOR_ROWS, VECTOR_BYTES = 2_048, 2 * 1024 * 1024
"""What DuckDB takes apart at once, holding it many times over; and how large that may be."""
PART_BYTES, SMALL_PART_BYTES = 32 * 1024 * 1024, 8 * 1024 * 1024
"""What one query decodes, together with its result; less where the records are large."""


def parts_of(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """As few parts as there may be, smaller ones where records are large."""
    sizes = np.fromiter(map(len, messages), np.int64, len(messages))
    vectors = np.add.reduceat(sizes, np.arange(0, len(messages), VECTOR_ROWS))
    limit = PART_BYTES if vectors.max() <= VECTOR_BYTES else SMALL_PART_BYTES
    ends = sizes.cumsum()
    first = 0
    while first < len(messages):
        before = ends[first] - sizes[first]
        end = max(first + 1, int(np.searchsorted(ends, before + limit, "right")))
        yield messages[first:end]
        first = end
