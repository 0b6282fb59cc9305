"""Jinja templates that are compiled once: dbt renders the same ones in each cycle.

dbt compiles every model, test and hook anew whenever it renders it: a fifth of what a cycle of many
small models costs.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Any

import jinja2

KEPT = 5_000
"""Compiled templates that are kept; a project has some hundreds."""
_compiled: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
_lock = Lock()


def keep_compiled_templates() -> None:
    """Have Jinja give the code that it has compiled of the same text, in this process."""
    compile_anew = jinja2.Environment.compile
    if getattr(compile_anew, "keeps_compiled", False):
        return

    def compile_once(
        self: jinja2.Environment,
        source: Any,
        name: str | None = None,
        filename: str | None = None,
        raw: bool = False,
        defer_init: bool = False,
    ) -> Any:
        if raw or not isinstance(source, str):
            return compile_anew(self, source, name, filename, raw, defer_init)  # type: ignore[call-overload]
        extensions = tuple(sorted(self.extensions))
        key = (type(self), extensions, source, name, filename, defer_init)
        with _lock:
            found = _compiled.get(key)
            if found is not None:
                _compiled.move_to_end(key)
                return found
        found = compile_anew(self, source, name, filename, raw, defer_init)
        with _lock:
            _compiled[key] = found
            while len(_compiled) > KEPT:
                _compiled.popitem(last=False)
        return found

    compile_once.keeps_compiled = True  # type: ignore[attr-defined]
    jinja2.Environment.compile = compile_once  # type: ignore[method-assign]
