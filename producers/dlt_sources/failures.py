"""What a failure inside of dlt is called here: types and codes, as messages may quote anything."""

from __future__ import annotations

from collections.abc import Iterator

import requests

from lake.errors import DuckLakeError, ServiceUnreachable, SourceError

_REFUSED = {1044, 1045, 1049, 1054, 1064, 1142, 1146, 1698}
"""MySQL's codes of what stays refused until somebody changes something."""
_LATER = {408, 425, 429}


def named_failure(table: str, error: BaseException) -> DuckLakeError:
    """The name of a failure.

    Args:
        table: The table, as `SOURCE.TABLE`.
        error: What dlt, or somebody's source, raised.
    """
    if isinstance(error, DuckLakeError):
        return error
    chain = list(_chain(error))
    said = " from ".join(dict.fromkeys(_said(part) for part in chain))
    what = f"The dlt resource of {table} failed: {said}."
    if any(_is_transient(part) for part in chain):
        return ServiceUnreachable(what, "It is retried; does its server answer?")
    return SourceError(
        what, "Check `options.arguments` of the source, and what its account may read."
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        original = getattr(current, "orig", None)
        cause = current.__cause__ or current.__context__
        current = original if isinstance(original, BaseException) else cause


def _said(error: BaseException) -> str:
    name = type(error).__name__
    status, code = _status(error), _code(error)
    if status is not None:
        return f"{name} (status {status})"
    if code is not None:
        return f"{name} (code {code})"
    fields = getattr(error, "fields", None)
    if type(error).__name__ == "ConfigFieldMissingException" and isinstance(fields, list | tuple):
        return f"{name} ({', '.join(map(str, fields))})"
    return name


def _status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    return status if isinstance(status, int) else None


def _code(error: BaseException) -> int | None:
    code = error.args[0] if error.args else None
    return code if isinstance(code, int) and type(error).__name__.endswith("Error") else None


def _is_transient(error: BaseException) -> bool:
    status, code = _status(error), _code(error)
    if status is not None:
        return status in _LATER or status >= 500
    if isinstance(
        error, requests.ConnectionError | requests.Timeout | ConnectionError | TimeoutError
    ):
        return True
    return type(error).__name__ == "OperationalError" and code is not None and code not in _REFUSED
