"""The ledger: which files exist, which offsets they hold, and where each partition stands."""

from lake.ledger.database import (
    LakeFile,
    Move,
    NewRows,
    SealIntent,
    TableState,
)
from lake.ledger.generations import Generation, Segment
from lake.ledger.reading import NOW, pinned
from lake.ledger.writing import Ledger

__all__ = [
    "NOW",
    "Generation",
    "LakeFile",
    "Ledger",
    "Move",
    "NewRows",
    "SealIntent",
    "Segment",
    "TableState",
    "pinned",
]
