"""Data tests as the batch asks them: the same verdicts as dbt's."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest

from batcher.data_tests import DataTest, data_tests


def ask(query: str) -> Sequence[Any]:
    row: tuple[Any, ...] = duckdb.connect().execute(query).fetchall()[0]
    return row


def made(query: str, **config: Any) -> DataTest:
    settings = {
        "limit": None,
        "severity": "ERROR",
        "fail_calc": "count(*)",
        "warn_if": "!= 0",
        "error_if": "!= 0",
        **config,
    }
    node = SimpleNamespace(
        name="checked",
        config=SimpleNamespace(**settings),
        depends_on=SimpleNamespace(nodes=["model.shop.orders", "source.shop.raw.orders"]),
    )
    model = SimpleNamespace(schema="staging", alias="orders")
    source = SimpleNamespace(schema="raw", identifier="orders")
    manifest = SimpleNamespace(
        nodes={"test.checked": node, "model.shop.orders": model},
        sources={"source.shop.raw.orders": source},
    )
    none = "SELECT 1 WHERE false"
    [test] = data_tests(manifest, {"test.checked": (query, "")}, {"test.checked": (none, "")})
    return test


@pytest.mark.parametrize(
    "config, status, message",
    [
        ({}, "fail", "Got 3 results, configured to fail if != 0"),
        ({"severity": "warn"}, "warn", "Got 3 results, configured to warn if != 0"),
        ({"error_if": "> 5"}, "warn", "Got 3 results, configured to warn if != 0"),
        ({"error_if": "> 5", "warn_if": "> 4"}, "pass", ""),
        ({"limit": 1}, "fail", "Got 1 result, configured to fail if != 0"),
        ({"fail_calc": "max(n)", "error_if": "> 2"}, "warn", "Got 2 results"),
    ],
)
def test_the_verdict_is_that_of_the_project(
    config: dict[str, Any], status: str, message: str
) -> None:
    found = made("SELECT * FROM range(3) AS t(n) -- rows", **config).judge(ask, whole=True)
    assert found.status == status and found.message.startswith(message), found


def test_rows_that_changed_are_asked_for_apart() -> None:
    test = made("SELECT 1")
    assert test.relations == ("staging.orders", "raw.orders")
    assert (test.judge(ask, whole=True).status, test.judge(ask, whole=False).status) == (
        "fail",
        "pass",
    )


def test_a_test_that_cannot_be_asked_is_an_error_of_its_own() -> None:
    found = made("SELECT missing FROM nowhere").judge(ask, whole=True)
    assert found.status == "error" and "nowhere" in found.message
    assert found.query == "SELECT missing FROM nowhere"
