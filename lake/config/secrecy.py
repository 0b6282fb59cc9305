"""What must never be shown: keys that name a secret, and addresses that carry one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
_SECRET_KEY = re.compile(
    r"passw|passphrase|secret|jaas|credential|api[._-]?key|(?:^|[._-])token$", re.IGNORECASE
)
_USER_INFO = re.compile(r"(?<=://)[^/\s]+(?=@)")
_REFERENCE = re.compile(r"\$\{[A-Za-z0-9_-]+:[^}]+\}")


def names_a_secret(key: str) -> bool:
    """Whether a setting of this name holds a secret."""
    return _SECRET_KEY.search(key) is not None


def is_reference(value: str) -> bool:
    """Whether a text is Kafka Connect's reference to a secret: `${provider:name}`."""
    return _REFERENCE.fullmatch(value) is not None


def without_login(address: str) -> str:
    """An address without the user and password that may stand in it."""
    return _USER_INFO.sub(HIDDEN, address)


def masked(value: Any, key: str = "") -> Any:
    """A value as it may be shown: secrets hidden at any depth.

    Args:
        value: A setting.
        key: The name of the setting.
    """
    if isinstance(value, Mapping):
        return {name: masked(inner, str(name)) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(masked(inner, key) for inner in value)
    if not isinstance(value, str):
        return value
    if value and names_a_secret(key) and not is_reference(value):
        return HIDDEN
    return without_login(value)
