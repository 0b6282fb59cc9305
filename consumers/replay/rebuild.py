"""A table built anew from its topic during live consumption, and switched to at equal positions.

What Kafka still holds of the wanted offsets is decoded again, by several processes; all else is
reused. Nobody reads the new generation before the switch, which is one transaction of the ledger.
A rebuild that was killed has changed nothing: what it left is dropped by the next one.
"""

from __future__ import annotations

import threading
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from consumers.replay.build import Helpers
from consumers.replay.context import ReplayScope
from consumers.replay.generation_builder import (
    LARGE_SPAN,
    BuildContext,
    GenerationBuilder,
    Progress,
)
from consumers.replay.generation_switch import GenerationSwitch
from consumers.replay.range_reader import KafkaReader
from consumers.replay.reuse import FileReuse
from consumers.replay.segments import Target
from consumers.replay.tables import known_table
from lake.config import Config, Endpoints
from lake.errors import LedgerError
from lake.failpoints import failpoint
from lake.ledger import Ledger
from lake.opening import open_lake
from lake.recovery import delete_replaced, drop_abandoned
from lake.storage.operations import remove_file, remove_tree
from lake.storage.session import Session

RETRY_SECONDS = 0.1
ABANDONED_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild came to.

    Attributes:
        generation: The one that is current now.
        read_again: Rows decoded again.
        reused: Rows taken over by reference.
        folder: Its public tree.
    """

    generation: int
    read_again: int
    reused: int
    dead_letters: int
    folder: Path


class Rebuild:
    """Builds one table anew.

    Args:
        config: The configuration.
        endpoints: Where Kafka is.
        scope: What is read again; the rest is reused.
        helpers: Other processes that decode.
        least: Records from which on they take part.
        progress: Called now and then.
    """

    def __init__(
        self,
        config: Config,
        endpoints: Endpoints,
        scope: ReplayScope,
        helpers: Helpers | None = None,
        least: int = LARGE_SPAN,
        progress: Progress = lambda rows, total: None,
    ) -> None:
        self._config = config
        self._endpoints = endpoints
        self._scope = scope
        self._topic = scope.ref.topic
        self._helpers = helpers or Helpers(0)
        self._least = least
        self._progress = progress

    def run(self, stop: threading.Event) -> Rebuilt:
        """Build and switch.

        Raises:
            LedgerError: The table is not in the ledger, or is being rebuilt already.
            ServiceUnreachable: Kafka stopped answering; nothing has changed.
            Interrupted: Told to stop; nothing has changed.
        """
        ref = self._scope.ref
        with (
            open_lake(self._config, for_writing=True) as lake,
            KafkaReader(self._endpoints) as k,
        ):
            ledger, session = lake.ledger, lake.session
            state = known_table(ledger, ref)
            generation = self._begin(ledger, session)
            failpoint("replay.after_begin")
            file_bytes = self._config.settings.consumer.target_file_mb * 1024 * 1024
            target = Target(ref, generation, state.topic_id, session.id, session.folder, file_bytes)
            context = BuildContext(
                self._config, self._endpoints, self._scope, ledger, session, k, target, stop
            )
            builder = GenerationBuilder(context, self._helpers, self._least, self._progress)
            try:
                builder.read_all(state)
                kind = self._config.kind(ref)
                reuse = FileReuse(ledger, session, target, kind, builder.not_read_again)
                with closing(reuse):
                    GenerationSwitch(context, builder, reuse).run()
            except BaseException:
                self._give_up(ledger, target)
                raise
            rows = ledger.offsets.row_count(self._topic)
            dead_letters = ledger.dead_letters.count(self._topic)
            folder = lake.paths.raw(ref, generation)
            return Rebuilt(generation, rows - reuse.rows, reuse.rows, dead_letters, folder)

    def _begin(self, ledger: Ledger, session: Session) -> int:
        """Begin the rebuild; one that was killed a moment ago may seem to live for another."""
        deadline = time.monotonic() + ABANDONED_SECONDS
        while True:
            drop_abandoned(ledger)
            try:
                return ledger.generations.begin(self._topic, session.id)
            except LedgerError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_SECONDS)

    def _give_up(self, ledger: Ledger, target: Target) -> None:
        """Leave nothing of a rebuild that did not get to its switch."""
        for left in target.folder.glob("generation-*"):
            remove_file(left)
        current = ledger.tables.get(self._topic)
        if current is not None and current.generation == target.generation:
            return  # it did: the error came after it
        ledger.generations.drop(self._topic, target.generation, lambda session: False)
        delete_replaced(ledger)
        remove_tree(ledger.paths.raw(target.ref, target.generation))
