"""The raw relations as the models read them: how far, and what is new since then."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from batcher.catalog import raw_columns
from batcher.model_state import Input, WarehouseState
from lake.config import Config, TableRef
from lake.errors import CommitsJoined
from lake.ledger import LedgerReader

DEAD_LETTERS = "dead_letters"


class RawInputs:
    """All raw relations as of one commit.

    Args:
        config: The configuration.
        ledger: The lake's ledger.
        commit: The ledger's commit, pinned.
    """

    def __init__(self, config: Config, ledger: LedgerReader, commit: int) -> None:
        self._config = config
        self._ledger = ledger
        self._commit = commit
        self._refs: Mapping[str, TableRef] = {
            config.relation(ref): ref for ref, _ in config.tables()
        }
        self._known: dict[tuple[str, int], bool | None] = {}

    def current(self) -> dict[str, Input]:
        """Every raw relation as it is at the commit."""
        found = {}
        for name, ref in self._refs.items():
            generation = self._ledger.tables.generation_at(ref.topic, self._commit) or 0
            columns = raw_columns(self._config, self._ledger, ref, self._commit)
            digest = hashlib.sha256(repr(columns).encode()).hexdigest()[:16]
            found[name] = Input(generation, self._commit, digest)
        state = self._ledger.dead_letters.state_at(self._commit)
        found[DEAD_LETTERS] = Input(0, self._commit, state)
        return found

    def has_new(self, name: str, after: int) -> bool:
        """Whether a raw relation has rows that were committed after a commit."""
        return bool(self._ask(name, after))

    def without_forgotten(self, state: WarehouseState) -> WarehouseState:
        """The state, without inputs of which the ledger cannot tell any more what is new."""
        models = {
            relation: replace(
                model,
                inputs={
                    name: each
                    for name, each in model.inputs.items()
                    if self._ask(name, each.commit) is not None
                },
            )
            for relation, model in state.models.items()
        }
        return replace(state, models=models)

    def _ask(self, name: str, after: int) -> bool | None:
        """Whether there are new rows; None: the ledger has joined the commits since then."""
        ref = self._refs.get(name)
        if ref is None or after >= self._commit:
            return False
        if (name, after) not in self._known:
            try:
                found = self._ledger.files.new_rows(ref.topic, after, self._commit)
                self._known[name, after] = bool(found)
            except CommitsJoined:
                self._known[name, after] = None
        return self._known[name, after]
