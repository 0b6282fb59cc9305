"""Catalogues of the lake's public files, by which other engines read them as tables.

The ledger stays the truth: a catalogue is made from it, follows it, and can be made anew.
"""

from __future__ import annotations

from importlib.util import find_spec

from lake.errors import ConfigError
from lake.installation import install_extra


def iceberg_must_be_installed() -> None:
    """See that the extra `iceberg` is there, before a module that needs it is imported.

    Raises:
        ConfigError: It is not; says how it is installed.
    """
    missing = [name for name in ("pyiceberg", "sqlalchemy") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"Iceberg tables need the Python package {missing[0]}.",
            f"Install it with `{install_extra('iceberg')}`.",
        )
