"""A lost ledger made anew from what the lake's files say of themselves in their footers.

What the files cannot say is named, never guessed: dead letters, accepted losses, and offsets that
were read without a row (markers, aborted records) between two files. `ducklake replay` asks Kafka.
"""

from consumers.maintenance.ledger_rebuild.choice import chosen_files
from consumers.maintenance.ledger_rebuild.found_files import FoundFile
from consumers.maintenance.ledger_rebuild.rebuild import restore_ledger
from consumers.maintenance.ledger_rebuild.result import Restored

__all__ = ["FoundFile", "Restored", "chosen_files", "restore_ledger"]
