"""Frames whose values stay what they are, on their way in and on their way out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd


def exact_frame(items: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """A frame of JSON objects whose values stay as they are.

    `pd.DataFrame(items)` makes a column of floats of integers beside a null: 1 becomes 1.0, in
    keys as well, and large ones are rounded.

    Args:
        items: The objects, such as those of `producers.http.answers.json_items`.
    """
    rows = list(items)
    columns = dict.fromkeys(name for row in rows for name in row)
    return pd.DataFrame({name: _column([row.get(name) for row in rows]) for name in columns})


def _column(values: list[Any]) -> pd.Series[Any]:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return pd.Series(column, dtype=object)


def frame_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A frame's rows as JSON knows them: what is missing is null, a Decimal keeps its digits."""
    columns = [str(name) for name in frame.columns]
    return [
        dict(zip(columns, (_plain(cell) for cell in row), strict=True))
        for row in frame.itertuples(index=False, name=None)
    ]


def _plain(cell: Any) -> Any:
    if cell is None or cell is pd.NaT or cell is pd.NA or cell != cell:  # NaN is not itself
        return None
    if isinstance(cell, datetime | date):
        return cell.isoformat()
    if isinstance(cell, Decimal):
        return str(cell)
    return cell.item() if isinstance(cell, np.generic) else cell
