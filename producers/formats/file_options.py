"""Options that every file has, whatever its format: which files, when, and what happens then."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from lake.config import Section


class FileOptions(Section):
    """How the files of a table are picked up.

    Attributes:
        format: The format, where the name's suffix does not say it.
        members: Of a .zip: which of its members are read.
        mode: `snapshot` reads a changed file again as a whole, `append` only what is new at its
            end.
        changes: How a change is seen: by size and time, or by a hash of the content at each poll.
        quiet_seconds: How long a file has to stay unchanged before it is read.
        done_marker: A file beside it that says that it is complete, such as `{name}.done`.
        start_date: Files that were last changed before this day are not read.
        after_reading: What happens to a file that has been read.
        move_to: The folder for `move`, relative to the file's.
    """

    format: str | None = None
    members: str = "*"
    mode: Literal["snapshot", "append"] = "snapshot"
    changes: Literal["time", "hash"] = "time"
    quiet_seconds: Annotated[float, Field(ge=0, le=86_400)] = 2.0
    done_marker: str | None = None
    start_date: date | None = None
    after_reading: Literal["leave", "move", "delete"] = "leave"
    move_to: str = "processed"

    @field_validator("done_marker", "move_to")
    @classmethod
    def _stays_in_its_folder(cls, value: str | None) -> str | None:
        if value is not None and (value.startswith("/") or ".." in value.split("/")):
            raise ValueError("it must not lead out of the folder")
        return value

    @field_validator("done_marker")
    @classmethod
    def _names_the_file(cls, value: str | None) -> str | None:
        if value is not None and ("{name}" not in value or value == "{name}"):
            raise ValueError("write {name} for the file's own name, such as {name}.done")
        return value

    def reading(self) -> dict[str, Any]:
        """The options that decide which rows a file has: if one changes, it is read again."""
        own = set(FileOptions.model_fields) - {"format", "members"}
        return self.model_dump(mode="json", exclude=own)
