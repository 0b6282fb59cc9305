"""Exit codes that one process of the project reads of another."""

from __future__ import annotations

INTERRUPTED = 130
FENCED = 3
"""Exit code of a process that another one has replaced: it must not be started again."""
PLANNED = 6
"""Exit code of `ducklake plan` where something will be done."""
