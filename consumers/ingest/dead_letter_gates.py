"""Dead letters of a flush, let pass by the policy of their table or not."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from lake.config import Config
from lake.dead_letter_limits import DeadLetterLimits
from lake.ledger import LedgerReader
from lake.records import DeadLetter


class DeadLetterGates:
    """The limits of all tables; the topic of rejects has none, since its producers keep theirs.

    Args:
        config: The configuration.
        ledger: Says what is kept.
    """

    def __init__(self, config: Config, ledger: LedgerReader) -> None:
        self._limits = {
            ref.topic: DeadLetterLimits(
                ref.topic, table.dead_letters, partial(ledger.dead_letters.usage, ref.topic)
            )
            for ref, table in config.tables()
        }

    def check(self, topic: str, dead_letters: Sequence[DeadLetter]) -> None:
        """Let the dead letters of a flush pass, or none of it.

        Raises:
            DeadLetterLimit: The table stops.
        """
        if dead_letters and topic in self._limits:
            first = dead_letters[0]
            where = f"partition {first.partition}, offset {first.offset}"
            self._limits[topic].check(f"{where}: {first.reason}")
