"""SQL that only DuckDB reads stands behind macros that another adapter can have its own of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DISPATCHED = re.compile(r"{% macro duckdb__.*?{%- endmacro %}", re.S)
COMMENT = re.compile(r"{#.*?#}|--[^\n]*", re.S)
ONLY_DUCKDB = re.compile(
    r"\b(asof|qualify|exclude|semi join|anti join|ubigint|varchar|timestamptz|string_agg|list_\w+"
    r"|struct_\w+|json_\w+|from_json|regexp_\w+|timezone|isodow|dayofweek|strftime|strptime"
    r"|try_strptime|date_diff|datediff|generate_series|unnest|contains|len|last|first|arg_max"
    r"|epoch_ms|lambda)\b(?!')|::|\[\d*\]|\bmedian\([^)]*\) over|\b\w+_on - \w+_on\b",
    re.I,
)
FILES = [
    *sorted((ROOT / "dbt_techstore").glob("m*/**/*.sql")),
    *sorted((ROOT / "dbt_techstore" / "tests").rglob("*.sql")),
]


def sql_of(path: Path) -> str:
    """What any adapter runs of a file: no comments, macros of one adapter, or calls of macros."""
    text = COMMENT.sub("", DISPATCHED.sub("", path.read_text(encoding="utf-8")))
    return re.sub(r"{{.*?}}|{%.*?%}", "", text, flags=re.S)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_model_has_no_sql_of_one_engine(path: Path) -> None:
    found = sorted({match.group() for match in ONLY_DUCKDB.finditer(sql_of(path))})
    assert not found, f"{path.name}: put {found} behind a macro of dialect.sql, with dispatch"


def test_such_sql_would_be_found(tmp_path: Path) -> None:
    path = tmp_path / "model.sql"
    path.write_text("select last(x order by y) from a asof join b using (z) -- qualify")
    assert {match.group() for match in ONLY_DUCKDB.finditer(sql_of(path))} == {"asof", "last"}
