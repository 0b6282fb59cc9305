"""The ledger: which files exist, which offsets they hold, and where each partition stands."""

from ducklake.lake.ledger.database import (
    LakeFile,
    Move,
    NewRows,
    SealIntent,
    TableState,
)
from ducklake.lake.ledger.generations import Generation, Segment
from ducklake.lake.ledger.reading import NOW, pinned
from ducklake.lake.ledger.writing import Ledger

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
