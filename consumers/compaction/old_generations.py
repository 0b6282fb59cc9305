"""Generations that a rebuild has replaced are removed, with their files."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from lake.config import TableRef
from lake.errors import LedgerError
from lake.opening import WritableLake
from lake.recovery import delete_replaced
from lake.storage.operations import remove_tree
from lake.storage.session import session_is_alive


def must_not_be_shown(lake: WritableLake, ref: TableRef, generation: int) -> None:
    """A generation that the published DuckDB file still reads has to stay.

    Raises:
        LedgerError: It does; a cycle of the batch publishes the current one.
    """
    run = lake.ledger.runs.last()
    shown = run and lake.ledger.tables.generation_at(ref.topic, run.last_commit)
    if run is not None and shown == generation:
        raise LedgerError(
            f"{lake.paths.lake_db} still shows generation {generation} of {ref.topic}.",
            "Run `ducklake batch --once` first.",
        )


def remove_generation(lake: WritableLake, ref: TableRef, generation: int) -> list[Path]:
    """Delete a generation that is not the current one, and its files.

    Returns:
        Files in its folder that are not the lake's; they stay.

    Raises:
        LedgerError: There is no such generation, it is the current one, or still shown.
        ServiceUnreachable: Somebody reads the lake at this moment.
    """
    must_not_be_shown(lake, ref, generation)
    lake.ledger.generations.drop(ref.topic, generation, partial(session_is_alive, lake.paths))
    delete_replaced(lake.ledger)
    folder = lake.paths.raw(ref, generation)
    left = [path for path in folder.rglob("*") if path.is_file()]
    if not left:
        remove_tree(folder)
    return left
