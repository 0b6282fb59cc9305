"""A word that is no command gets an answer: the new name of an old one, or the nearest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typer.core import TyperGroup

from lake.config import nearest

_RENAMED: Mapping[str, str] = {"accept": "accept-loss"}


class Commands(TyperGroup):
    """The commands of `ducklake`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the first word names.

        Raises:
            UsageError: There is none; says which one may be meant.
        """
        word = args[0]
        if self.get_command(ctx, word) is None and not word.startswith("-"):
            if word in _RENAMED:
                ctx.fail(f"`{word}` is called `{_RENAMED[word]}` now.")
            ctx.fail(f"No such command {word!r}{nearest(word, self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)
