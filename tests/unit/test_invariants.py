"""docs/INVARIANTS.md cannot lie: every test that it names exists, and no cell is empty."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.crash.sabotage import BREAKS

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
NAMED = re.compile(r"`([a-z0-9_/]+\.py)::([A-Za-z0-9_]+)`")


def _tables() -> list[list[list[str]]]:
    """Tables, rows, cells; without the lines below the headings."""
    tables: list[list[list[str]]] = []
    before = ""
    for line in (ROOT / "docs" / "INVARIANTS.md").read_text().splitlines():
        if line.startswith("|"):
            if not before.startswith("|"):
                tables.append([])
            if not set(line) <= set("|- "):
                tables[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        before = line
    return tables


def _names(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def _exists(file: str, test: str) -> bool:
    path = TESTS / file
    return path.is_file() and test.lower().startswith("test") and test in _names(path)


GUARANTEES = {"A", "B", "C", "D"}
PROVES = re.compile(NAMED.pattern + r" \(([A-D](?:, [A-D])*)\)")


def test_the_page_has_its_tables() -> None:
    raw_lake, others = _tables()
    assert len(raw_lake) > 15 and len(others) > 5


@pytest.mark.parametrize("row", _tables()[0][1:], ids=lambda r: r[0])
def test_every_guarantee_under_every_fault_has_a_test_that_exists(row: list[str]) -> None:
    fault, cell = row
    assert fault
    proven: set[str] = set()
    for entry in cell.split("<br>"):
        match = PROVES.fullmatch(entry)
        assert match, f"neither a test nor its guarantees: {entry!r}"
        file, test, guarantees = match.groups()
        assert _exists(file, test), f"no such test: {entry}"
        proven |= set(guarantees.split(", "))
    assert proven == GUARANTEES


@pytest.mark.parametrize("row", _tables()[1][1:], ids=lambda r: r[0])
def test_every_promise_names_a_test_that_exists_or_says_open(row: list[str]) -> None:
    _, cell = row
    match = NAMED.fullmatch(cell)
    assert cell == "open" or match, f"neither a test nor open: {cell!r}"
    if match:
        assert _exists(*match.groups()), f"no such test: {cell}"


@pytest.mark.parametrize("break_", BREAKS, ids=lambda b: b.name)
def test_every_break_names_a_test_and_a_place_that_exist(break_: object) -> None:
    file, _, test = break_.test.removeprefix("tests/").partition("::")  # type: ignore[attr-defined]
    if test:
        assert _exists(file, test.partition("[")[0])
    else:
        assert (TESTS / file).is_file()
    source = (ROOT / break_.file).read_text()  # type: ignore[attr-defined]
    assert source.count(break_.old) == 1, "the place has changed: mend the list of breaks"  # type: ignore[attr-defined]
