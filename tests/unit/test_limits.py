"""Modules, functions and signatures stay small, or docs/DESIGN.md says why one does not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ducklake", "stack", "techstore", "producers", "consumers", "batcher", "lake")
MODULE_LINES, FUNCTION_LINES, PARAMETERS = 300, 50, 6
FEW_PARAMETERS = ("consumers/", "batcher/")
ROW = re.compile(r"^\| `([^`]+)` \| ([^|]+) \|$", re.MULTILINE)


Function = ast.FunctionDef | ast.AsyncFunctionDef


def _functions(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, Function]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | Function):
            name = f"{inside}.{node.name}".lstrip(".")
            if isinstance(node, Function):
                yield name, node
            yield from _functions(node, name)
        else:
            yield from _functions(node, inside)


def _parameters(function: Function) -> int:
    named = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return len([a for a in named if a.arg not in ("self", "cls")])


def beyond(file: str, source: str) -> Iterator[tuple[str, str]]:
    """(place, what is too large there) of one module."""
    lines = len(source.splitlines())
    if lines > MODULE_LINES:
        yield file, f"{lines} lines"
    for name, function in _functions(ast.parse(source)):
        length = (function.end_lineno or 0) - function.lineno + 1
        if length > FUNCTION_LINES:
            yield f"{file}::{name}", f"{length} lines"
        count = _parameters(function)
        if count > PARAMETERS and file.startswith(FEW_PARAMETERS):
            yield f"{file}::{name}()", f"{count} parameters"


def _all_beyond() -> dict[str, str]:
    found: dict[str, str] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            found |= beyond(path.relative_to(ROOT).as_posix(), path.read_text())
    return found


def _excepted() -> dict[str, str]:
    page = (ROOT / "docs" / "DESIGN.md").read_text()
    return dict(ROW.findall(page.partition("## Limits of size")[2].partition("\n## ")[0]))


def test_nothing_is_larger_than_its_limit_without_a_reason() -> None:
    found = {place: size for place, size in _all_beyond().items() if place not in _excepted()}
    assert not found, "split it, or say in docs/DESIGN.md, Limits of size, why not"


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("\n" * MODULE_LINES + "a = 1\n", "batcher/x.py"),
        ("class A:\n    def f(self):\n" + "        a = 1\n" * FUNCTION_LINES, "batcher/x.py::A.f"),
        ("def f(a, b, c, d, *, e, f, g): ...\n", "batcher/x.py::f()"),
        ("if True:\n    def f(self, a, b, c, d, e, f, g): ...\n", "batcher/x.py::f()"),
    ],
)
def test_what_is_too_large_is_seen(source: str, place: str) -> None:
    assert [place] == [name for name, _ in beyond("batcher/x.py", source)]


def test_what_is_at_its_limit_is_not_too_large() -> None:
    lines = "    a = 1\n" * (FUNCTION_LINES - 1)
    source = "def f(self, a, b, c, d, e, f):\n" + lines
    assert list(beyond("batcher/x.py", source)) == []
    assert list(beyond("lake/x.py", "def f(a, b, c, d, e, f, g): ...\n")) == []
