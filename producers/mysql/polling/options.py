"""The options of a polled table."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lake.config import Section


class PollOptions(Section):
    """How a table is polled.

    Attributes:
        watermark: A column that grows with every change of a row, such as `updated_at`; or the
            table's auto-increment key, where rows are only ever added.
        late_seconds: For so long after a value of the watermark was seen, rows below it may still
            be committed: longer than the longest transaction.
    """

    watermark: Annotated[str, Field(min_length=1)]
    late_seconds: Annotated[float, Field(ge=1, le=86_400)] = 60
