"""What a producer rejects, let pass by the policy of its table or not.

The ledger knows what the consumer has read; what was sent since then is counted here.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Iterator
from functools import partial

from lake.config import Config, TableRef
from lake.dead_letter_limits import DeadLetterLimits
from lake.errors import DeadLetterLimit, LedgerError, TransientError
from lake.ledger import DeadLetterUsage
from lake.opening import open_lake
from lake.storage.paths import LakePaths
from producers.base import Batch

LOOK_SECONDS = 5.0
"""How often the ledger is asked."""


class RejectLimits:
    """The limits of the tables of one source.

    Args:
        config: The configuration.
        source: The source.
    """

    def __init__(self, config: Config, source: str) -> None:
        self._config = config
        self._seen: dict[str, tuple[float, DeadLetterUsage, int]] = {}
        self._sent: Counter[str] = Counter()
        self._sent_bytes: Counter[str] = Counter()
        self._before: dict[str, int] = {}
        self._limits = {
            ref.table: DeadLetterLimits(ref.topic, table.dead_letters, partial(self._usage, ref))
            for ref, table in config.tables()
            if ref.source == source
        }

    def admitted(self, batches: Iterator[Batch]) -> Generator[Batch]:
        """The batches that may be written; the source is told of each that may not.

        It may go on with other tables: a generator gets the error where it has yielded the batch.

        Raises:
            DeadLetterLimit: The source does not go on.
        """
        try:
            batch = next(batches, None)
            while batch is not None:
                refusal = self._refusal(batch)
                if refusal is not None:
                    batch = _thrown(batches, refusal)
                    continue
                yield batch
                self._count(batch)
                batch = None  # or it stays in memory while the next one is read
                batch = next(batches, None)
        finally:
            if isinstance(batches, Generator):
                batches.close()  # now, not some time: it may hold a session open

    def _refusal(self, batch: Batch) -> DeadLetterLimit | None:
        if not batch.rejects or batch.table not in self._limits:
            return None
        try:
            self._limits[batch.table].check(batch.rejects[0].reason)
        except DeadLetterLimit as error:
            return error
        return None

    def _count(self, batch: Batch) -> None:
        self._sent[batch.table] += len(batch.rejects)
        self._sent_bytes[batch.table] += sum(len(reject.payload) for reject in batch.rejects)

    def _usage(self, ref: TableRef, since: float) -> DeadLetterUsage:
        """What the ledger has, and what is still on its way there."""
        usage, rejected = self._in_ledger(ref, since)
        sent = self._sent[ref.table]
        arrived = rejected - self._before.setdefault(ref.table, rejected)
        coming = max(0, sent - arrived)
        return DeadLetterUsage(
            usage.rows + coming,
            usage.bytes + (self._sent_bytes[ref.table] * coming // sent if sent else 0),
            usage.recent + coming,
        )

    def _in_ledger(self, ref: TableRef, since: float) -> tuple[DeadLetterUsage, int]:
        """What it has, and how much was ever rejected; as it was a moment ago."""
        now = time.monotonic()
        known = self._seen.get(ref.table)
        if known is not None and now < known[0]:
            return known[1:]
        usage, rejected = known[1:] if known is not None else (DeadLetterUsage(), 0)
        if LakePaths(self._config.data_dir).ledger.exists():
            try:
                with open_lake(self._config, for_writing=False) as lake:
                    letters = lake.ledger.dead_letters
                    usage, rejected = letters.usage(ref.topic, since), letters.rejected(ref.topic)
            except (LedgerError, TransientError):
                pass  # who reads the lake says so; what is sent meanwhile is counted here
        self._seen[ref.table] = now + LOOK_SECONDS, usage, rejected
        return usage, rejected


def _thrown(batches: Iterator[Batch], error: DeadLetterLimit) -> Batch | None:
    """What a source yields next that was told of a refusal."""
    if not isinstance(batches, Generator):
        raise error
    try:
        found: Batch = batches.throw(error)
    except StopIteration:
        return None
    return found
