"""The options of a source of type `dlt`."""

from __future__ import annotations

import importlib
from typing import Annotated, Any

from pydantic import Field

from lake.config import Section
from lake.errors import SourceError
from lake.installation import install_extra
from producers.modules import assert_module_believed


class DltOptions(Section):
    """Which source.

    Attributes:
        source: The function that makes it: `package.module:function`.
        arguments: Its arguments; secrets come from the environment.
    """

    source: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
    arguments: dict[str, Any] = {}


class DltIncremental(Section):
    """What `dlt.sources.incremental` is told.

    Attributes:
        cursor: The column, or the path, that grows.
        start: Its first value.
    """

    cursor: str
    start: Any = None


class DltTable(Section):
    """Which resource.

    Attributes:
        resource: Its name, where that is not the table's.
        incremental: Only what is new, where the resource does not do that by itself.
        child_of: The table in whose rows the rows of this one are nested; it runs no resource.
        field: The column there that holds them; by default this table's name, without that of
            `child_of` and `_` or `__` before it.
    """

    resource: str | None = None
    incremental: DltIncremental | None = None
    child_of: str | None = None
    field: str | None = None


def load(target: str) -> Any:
    """The function that makes a source.

    Raises:
        SourceError: There is no such function.
    """
    module, _, name = target.partition(":")
    importlib.invalidate_caches()
    assert_module_believed(module)
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("dlt", "sqlalchemy"):
            raise SourceError(
                f"Sources of dlt need the Python package {package}, which is not installed.",
                f"Run: {install_extra('dlt')}",
            ) from None
        raise SourceError(f"{target}: no module {error.name!r}.", "Is it on PYTHONPATH?") from None
    except Exception as error:  # whatever somebody's module raises while it is imported
        raise SourceError(
            f"{target} cannot be loaded ({type(error).__name__}).", "Is it on PYTHONPATH?"
        ) from None
