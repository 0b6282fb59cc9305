"""Modules that the configuration names: who may have written them."""

from __future__ import annotations

import sys
from pathlib import Path

from lake.config.trust import assert_believed


def assert_module_believed(module: str, named_by: Path | None = None) -> None:
    """Refuse a module in whose place another user may put code, before it is imported.

    Args:
        module: Its dotted name.
        named_by: The configuration that names it, see `assert_believed`.

    Raises:
        ConfigError: Its file, or the folder of its package, is another user's or open to others.
    """
    first, *_ = module.split(".")
    relative = Path(*module.split("."))
    for folder in map(Path, sys.path):
        package, single = folder / first, folder / f"{first}.py"
        if not (package.is_dir() or single.is_file()):
            continue
        inner = (folder / relative.with_suffix(".py"), folder / relative / "__init__.py")
        for path in {package, single, *inner}:
            if path.exists():
                remedy = "Use one of your own, or have its owner give it to you."
                assert_believed(path, f"the module {module}", remedy, named_by)
        return
