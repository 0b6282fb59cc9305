"""The ledger: which files exist, which offsets they hold, and where each partition stands."""

from lake.ledger.entries import (
    NOW,
    BuiltFile,
    CommittedFile,
    Gap,
    Generation,
    LakeFile,
    NewRows,
    Segment,
    TableState,
)
from lake.ledger.ledger import Ledger, LedgerReader

__all__ = [
    "NOW",
    "BuiltFile",
    "CommittedFile",
    "Gap",
    "Generation",
    "LakeFile",
    "Ledger",
    "LedgerReader",
    "NewRows",
    "Segment",
    "TableState",
]
