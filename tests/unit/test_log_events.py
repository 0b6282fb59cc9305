"""docs/LOG_EVENTS.md lists every event that is logged: stable keys, each with its sentence."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ducklake", "stack", "techstore", "producers", "consumers", "batcher", "lake")
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| [^|]+ \|$", re.MULTILINE)
KEY = re.compile(r"[a-z]+(_[a-z]+)+")


def logged(source: str) -> Iterator[tuple[str, str]]:
    """(event, level) of every call of a logger."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        logger = node.func.value
        name = logger.attr if isinstance(logger, ast.Attribute) else getattr(logger, "id", "")
        if node.func.attr not in LEVELS or name.lstrip("_") not in ("log", "logger"):
            continue
        where = f"line {node.lineno}"
        [event] = node.args
        assert isinstance(event, ast.Constant), f"{where}: the event is not a constant"
        key = str(event.value)
        assert KEY.fullmatch(key), f"{where}: {key!r} is not a key in snake_case"
        named = {keyword.arg for keyword in node.keywords}
        assert "message" in named, f"{where}: {key} has no sentence"
        yield key, node.func.attr


def test_the_page_lists_every_event_with_its_level() -> None:
    page = (ROOT / "docs" / "LOG_EVENTS.md").read_text()
    found = {
        pair
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for pair in logged(path.read_text())
    }
    rows = ROW.findall(page)
    assert set(rows) == found
    assert [event for event, _ in rows] == sorted(event for event, _ in rows)


@pytest.mark.parametrize(
    "source",
    [
        'log.warning("table stopped", message="It stops.")',
        'log.error(f"table_{x}", message="It stops.")',
        'log.error("table_halted", table=x)',
        'self._log.info("Halted", message="It stops.")',
    ],
)
def test_an_event_that_is_no_key_or_has_no_sentence_is_seen(source: str) -> None:
    with pytest.raises(AssertionError):
        list(logged(source))


def test_what_is_no_logger_is_not_taken_for_one() -> None:
    assert list(logged("self.error(one, two)\nparser.error('no such file')")) == []
