"""What a compaction does to the ledger: record its intent, and flip."""

from __future__ import annotations

import json

from lake.errors import LedgerError
from lake.failpoints import failpoint
from lake.formats import CompactionIntent
from lake.ledger.core import LedgerCore
from lake.ledger.entries import OpenCompaction
from lake.ledger.intents import open_compactions
from lake.ledger.statements import add_file, must_be_current
from lake.storage.parquet_files import WrittenFile


class Compactions:
    """Hot files become other hot files or public ones; every step can be redone."""

    def __init__(self, core: LedgerCore) -> None:
        self._core = core

    def record_intent(self, topic: str, generation: int, intent: CompactionIntent) -> int:
        """Record what a compaction is about to rename; from here on it is rolled forward.

        Raises:
            CommitConflict: The table was rebuilt meanwhile; the files are those of an old state.
        """
        with self._core.write() as db:
            must_be_current(db, topic, generation)
            number = db.execute(
                "INSERT INTO compactions (topic, intent) VALUES (?, ?)", (topic, intent.dump())
            ).lastrowid
        assert number is not None
        return number

    def open(self) -> list[OpenCompaction]:
        """Compactions whose intent is recorded and that have not flipped yet."""
        return open_compactions(self._core.db)

    def flip(self, number: int, topic: str, intent: CompactionIntent) -> None:
        """Hot becomes sealed, in one transaction; what has flipped already stays as it is."""
        with self._core.write() as db:
            if not db.execute(
                "DELETE FROM compactions WHERE compaction_id = ?", (number,)
            ).rowcount:
                return
            moment = self._core.moment()
            row = db.execute("SELECT generation FROM lake_tables WHERE topic = ?", (topic,))
            key = (topic, row.fetchone()[0])
            # A merged file is as old as its oldest part: its rows wait no longer to be sealed.
            oldest = db.execute(
                "SELECT min(created_at) FROM files"
                " WHERE file_id IN (SELECT value FROM json_each(?))",
                (json.dumps(intent.inputs),),
            ).fetchone()[0]
            for out in intent.outputs:
                path = self._core.paths.root / out.final
                tier = "hot" if out.final.startswith("hot/") else "sealed"
                born = oldest if tier == "hot" else moment
                file = WrittenFile(path, out.size, out.sha256, out.rows)
                add_file(db, key, tier, out.final, file, out.commits, born)
            replaced = db.executemany(
                "UPDATE files SET obsolete_at = ? WHERE file_id = ? AND obsolete_at IS NULL",
                [(moment, file_id) for file_id in intent.inputs],
            ).rowcount
            if replaced != len(intent.inputs):
                raise LedgerError(
                    f"Table {topic}: {len(intent.inputs) - replaced} of the files that a compaction"
                    " replaces were replaced before.",
                    "Nothing was changed. `ducklake verify` shows what the lake holds.",
                )
            db.executemany(
                "DELETE FROM file_commits WHERE file_id = ?", [(i,) for i in intent.inputs]
            )
            failpoint("seal.in_flip")
