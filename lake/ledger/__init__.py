"""The ledger: which files exist, which offsets they hold, and where each partition stands."""

from lake.ledger.dead_letters import DeadLetterEntry, DeadLetterUsage
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
from lake.ledger.payloads import Payload

__all__ = [
    "NOW",
    "BuiltFile",
    "CommittedFile",
    "DeadLetterEntry",
    "DeadLetterUsage",
    "Gap",
    "Generation",
    "LakeFile",
    "Ledger",
    "LedgerReader",
    "NewRows",
    "Payload",
    "Segment",
    "TableState",
]
