"""The base of every part of the configuration: typed, closed, frozen, and silent on secrets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from lake.config.secrecy import masked

EMBEDDED = "embedded"
"""The address of what `ducklake up` starts."""

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Positive = Annotated[float, Field(gt=0)]


def _known_zone(name: str) -> str:
    """A time zone's name, as the IANA database has it."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError("is no time zone; for example America/Argentina/Buenos_Aires") from None
    return name


TimeZone = Annotated[str, AfterValidator(_known_zone)]


class Masked(BaseModel):
    """A model whose `repr` and `str` show no secret."""

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """The fields as they may be shown."""
        for name, value in super().__repr_args__():
            yield name, masked(value, name or "")


class Section(Masked):
    """A part of `ducklake.yml`: an unknown key is an error, and nothing changes later.

    The options of a connector of your own derive from it, too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
