"""How this program was installed, for remedies that say how to install more."""

from __future__ import annotations

from pathlib import Path

_BUNDLE = "_bundle"
"""The folder of a wheel's package `ducklake` in which all other packages lie."""
PROJECT = Path(__file__).resolve().parents[1]
"""What holds the packages and their data: a clone, or the wheel's folder."""


def is_installed() -> bool:
    """Whether this runs from a wheel in site-packages, and not from a clone."""
    return PROJECT.name == _BUNDLE


def install_extra(name: str) -> str:
    """The command that installs an extra, such as `stack`."""
    what = f"'ducklake-stream[{name}]'" if is_installed() else f"-e '.[{name}]'"
    return f"pip install {what}"
