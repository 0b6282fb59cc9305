"""Every error that the code raises with a remedy, as its source has it: `…` for what varies."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lake import errors

ROOT = Path(__file__).resolve().parents[2]
VARIES = "…"
ERRORS = {
    name
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, errors.DuckLakeError)
} | {"KeyUnusable", "NoTls", "Refusal", "TlsRefused"}
"""With those of single modules, and what says why Kafka takes no client."""


@dataclass(frozen=True, order=True)
class Message:
    """An error as it reads.

    Attributes:
        what: What happened.
        remedy: What to do.
    """

    what: str
    remedy: str


def messages(*folders: str) -> Iterator[Message]:
    """All in some files and folders; without those whose words come from another place."""
    for folder in folders:
        at = ROOT / folder
        for file in sorted(at.rglob("*.py") if at.is_dir() else [at]):
            yield from _Module(file).messages()


class _Module:
    def __init__(self, file: Path) -> None:
        self._name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        self._tree = ast.parse(file.read_text())

    def messages(self) -> Iterator[Message]:
        for function in ast.walk(self._tree):
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Call) and _is_error(node.func) and len(node.args) > 1:
                        what, remedy = (self._text(a, function) for a in node.args[:2])
                        if what.strip(VARIES + " .:") and remedy.strip(VARIES + " .:"):
                            yield Message(what, remedy)

    def _text(self, node: ast.expr, function: ast.FunctionDef) -> str:
        if isinstance(node, ast.Constant):
            return str(node.value)
        if isinstance(node, ast.JoinedStr):
            return "".join(self._text(value, function) for value in node.values)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self._text(node.left, function) + self._text(node.right, function)
        if isinstance(node, ast.Name):
            return self._named(node.id, function)
        return VARIES

    def _named(self, name: str, function: ast.FunctionDef) -> str:
        """A text that a variable of the function or a constant of the module holds."""
        for node in ast.walk(function):
            if (
                isinstance(node, ast.Assign)
                and ast.unparse(node.targets[0]) == name
                and not isinstance(node.value, ast.Name)
            ):
                return self._text(node.value, function)
        constant = getattr(importlib.import_module(self._name), name, VARIES)
        return constant if isinstance(constant, str) else VARIES


def _is_error(called: ast.expr) -> bool:
    return isinstance(called, ast.Name) and called.id in ERRORS
