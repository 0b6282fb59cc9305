"""What a rebuild of the ledger came to."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Restored:
    """What a restoration came to.

    Attributes:
        unknown: What the files could not say, a sentence each, with the remedy.
        quarantined: Damaged files and those whose rows are in others, relative to the lake:
            moved to `orphans/`.
    """

    tables: int = 0
    files: int = 0
    rows: int = 0
    unknown: list[str] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)
