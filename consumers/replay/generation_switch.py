"""The switch to a new generation: at equal positions, while the live consumer waits."""

from __future__ import annotations

import time
from functools import partial

from consumers.replay.generation_builder import BuildContext, GenerationBuilder
from consumers.replay.reuse import FileReuse
from consumers.replay.tables import known_table
from lake.errors import CommitConflict, LedgerError, TerminalError
from lake.failpoints import failpoint
from lake.ledger import TableState
from lake.ledger.generations import HOLD_SECONDS

SWITCH_SECONDS = 120.0
RETRY_SECONDS = 0.1


class GenerationSwitch:
    """Makes a generation that is built the current one.

    Args:
        context: What is open.
        builder: Has read everything up to some positions; it catches up.
        reuse: Takes over what is not read again.
    """

    def __init__(self, context: BuildContext, builder: GenerationBuilder, reuse: FileReuse) -> None:
        self._context = context
        self._builder = builder
        self._reuse = reuse

    def run(self) -> None:
        """Catch up with the live consumer, which waits for the last moment of it, and switch.

        Raises:
            TerminalError: The live consumer or a compaction committed first each time.
            LedgerError: The topic was made anew.
            Interrupted: Told to stop.
        """
        context, ledger = self._context, self._context.ledger
        generation, session = context.target.generation, context.session.id
        deadline = time.monotonic() + SWITCH_SECONDS
        hold = partial(ledger.generations.hold, context.topic, generation, session)
        reused_to = 0
        while True:
            self._builder.catch_up(self._state())
            hold(HOLD_SECONDS)
            failpoint("replay.after_hold")
            state = self._state()
            up_to = ledger.commits.newest_number()
            self._builder.catch_up(state)
            self._reuse.take_over(state, reused_to, up_to)
            reused_to = up_to
            schema = self._builder.schema
            if self._reuse.rows:
                schema = schema.with_missing(state.schema)
            failpoint("replay.before_switch")
            try:
                ledger.generations.switch(state, generation, session, schema, up_to)
                failpoint("replay.after_switch")
                return
            except CommitConflict as error:  # a compaction, or this process was too slow
                hold(0)
                if context.stop.wait(RETRY_SECONDS) or time.monotonic() > deadline:
                    raise TerminalError(
                        f"The rebuild of {context.topic} could not switch: {error}",
                        "Nothing has changed. Start it again when there is less to do.",
                    ) from None

    def _state(self) -> TableState:
        context = self._context
        state = known_table(context.ledger, context.scope.ref)
        if state.topic_id != context.target.topic_id:
            raise LedgerError(
                f"Topic {context.topic} was recreated during the rebuild.", "Start it again."
            )
        return state
