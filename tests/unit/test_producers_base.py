from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lake.config import Config, Endpoints, PostgresEndpoint
from lake.config import load_config as load
from lake.errors import ConfigError
from producers.base import BATCH_ROWS, ExtractConnector
from producers.frames import frame_rows

NOWHERE = Endpoints(
    kafka="127.0.0.1:1",
    kafka_options={},
    connect="http://127.0.0.1:1",
    postgres=PostgresEndpoint("127.0.0.1", 1, "u", "hunter2", "shop"),
)


def config(tmp_path: Path, sources: str) -> Config:
    path = tmp_path / "ducklake.yml"
    path.write_text(f"sources:\n{sources}")
    return load(path)


class Frames(ExtractConnector):
    frames: Mapping[str, pd.DataFrame] = {}

    def extract(self) -> dict[str, pd.DataFrame]:
        return dict(self.frames)


def made(tmp_path: Path, frames: dict[str, pd.DataFrame]) -> Frames:
    settings = config(
        tmp_path, "  own:\n    type: here:Frames\n    tables: {rates: {key: [day]}}\n"
    )
    source = Frames("own", settings.settings.sources["own"], settings, NOWHERE)
    source.frames = frames
    return source


def test_a_frame_keeps_the_digits_and_the_missing() -> None:
    frame = pd.DataFrame(
        {
            "exact": [Decimal("1234567890.123456789012"), None],
            "whole": np.array([2**63 - 1, 1], dtype=np.int64),
            "gap": [1.5, np.nan],
            "day": [date(2026, 1, 2), pd.NaT],
            "at": pd.to_datetime(pd.Series(["2026-01-02T03:04:05.678901Z", None])),
            "word": ["ñ", None],
        }
    )
    assert frame_rows(frame) == [
        {
            "exact": "1234567890.123456789012",
            "whole": 2**63 - 1,
            "gap": 1.5,
            "day": "2026-01-02",
            "at": "2026-01-02T03:04:05.678901+00:00",
            "word": "ñ",
        },
        {"exact": None, "whole": 1, "gap": None, "day": None, "at": None, "word": None},
    ]


def test_an_unchanged_frame_is_not_sent_again_and_a_large_one_in_parts(tmp_path: Path) -> None:
    rows = BATCH_ROWS * 2 + 1
    source = made(tmp_path, {"rates": pd.DataFrame({"day": range(rows)})})
    cursors: dict[str, Mapping[str, Any]] = {}
    first, *rest = source.poll(cursors)
    assert [len(batch.records) for batch in (first, *rest)] == [BATCH_ROWS, BATCH_ROWS, 1]
    # stopped after the first part, it goes on with the second
    again = list(source.poll({first.key: first.cursor}))
    assert [batch.records[0].value["day"] for batch in again] == [BATCH_ROWS, BATCH_ROWS * 2]
    assert list(source.poll({again[-1].key: again[-1].cursor})) == []
    assert source.count() == {"rates": rows}


def test_an_empty_frame_moves_the_cursor_once(tmp_path: Path) -> None:
    source = made(tmp_path, {"rates": pd.DataFrame({"day": []})})
    (batch,) = source.poll({})
    assert not batch.records
    assert batch.cursor["complete"]
    assert list(source.poll({batch.key: batch.cursor})) == []


def test_a_frame_of_an_unknown_table_is_named(tmp_path: Path) -> None:
    source = made(tmp_path, {"rats": pd.DataFrame({"day": [1]})})
    with pytest.raises(ConfigError, match="'rats', which is not configured"):
        list(source.poll({}))
