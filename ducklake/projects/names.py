"""Names that SQL, YAML or Jinja would take for something else, written safely."""

from __future__ import annotations

import json
import re
from collections.abc import Container
from typing import Any

import yaml

from lake.config.table_names import lake_name

_JINJA = re.compile(r"\{[{%#]")
_ONE_LINE = 1_000_000


def free_name(wanted: str, taken: Container[str], prefix: str = "") -> str:
    """A name in the lake for any name: its like, or with a prefix, or with `_2`, `_3`, … behind it.

    Args:
        wanted: What it is called where it is.
        taken: Names that others have.
        prefix: What tells it from another one of that name, such as its database.
    """
    name = lake_name(wanted)
    if name in taken and prefix:
        name = lake_name(f"{prefix}_{wanted}")
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate


def flow(value: Any) -> str:
    """A value as YAML on one line, for `ducklake.yml`: what looks like a reference is none."""
    return in_yaml(_escaped(value))


def in_yaml(value: Any) -> str:
    """A value as YAML on one line: names that YAML would take for something else are quoted."""
    text = yaml.safe_dump(
        value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=_ONE_LINE
    )
    text = text.removesuffix("\n").removesuffix("...").strip()
    return json.dumps(value, ensure_ascii=False) if "\n" in text else text


class Reference(str):
    """A text of ours that does refer to the environment: `${NAME}`."""

    __slots__ = ()


def _escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(_escaped(key)): _escaped(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(inner) for inner in value]
    if isinstance(value, Reference):
        return str(value)
    return value.replace("${", "$${") if isinstance(value, str) else value


def in_sql(name: str) -> str:
    """A column as an identifier in a model: quoted, and no Jinja whatever stands in it."""
    quoted = '"' + name.replace('"', '""') + '"'
    return "{{ " + _literal(quoted) + " }}" if _JINJA.search(quoted) else quoted


def in_jinja(name: str) -> str:
    """A text as a literal within an expression of Jinja."""
    return _literal(name)


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
