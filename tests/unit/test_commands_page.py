"""docs/COMMANDS.md lists every command with its arguments and options, in the program's words.

python -m tests.unit.test_commands_page        writes the tables anew
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from ducklake.cli.app import app

PAGE = Path(__file__).resolve().parents[2] / "docs" / "COMMANDS.md"
EVERYWHERE = {"--config", "--help"}


def _commands(command: Any, path: str = "ducklake") -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, inner in command.commands.items():
        yield from _commands(inner, f"{path} {name}")


def _parameters(command: Any) -> Iterator[tuple[str, str]]:
    for parameter in command.params:
        names = [name for name in parameter.opts if name not in EVERYWHERE]
        if not names:
            continue
        is_option = parameter.opts[0].startswith("--")
        name = " ".join(names) if is_option else names[0].upper()
        assert parameter.help, f"{command.name} {name} has no help"
        yield f"`{name}`", parameter.help


def tables() -> str:
    """What the page must hold."""
    lines = []
    for path, command in _commands(typer.main.get_command(app)):
        assert command.help, f"`{path}` has no help"
        lines += [f"## {path}", "", command.help, ""]
        rows = [f"| {name} | {text} |" for name, text in _parameters(command)]
        if rows:
            lines += ["| Argument or option | Meaning |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def test_every_command_and_option_is_described() -> None:
    _, _, stored = PAGE.read_text(encoding="utf-8").partition("## ducklake up")
    assert (
        f"## ducklake up{stored}".strip() == tables().strip()
    ), "run: python -m tests.unit.test_commands_page"


if __name__ == "__main__":
    head = PAGE.read_text(encoding="utf-8").partition("## ducklake up")[0]
    PAGE.write_text(f"{head}{tables().strip()}\n", encoding="utf-8")
