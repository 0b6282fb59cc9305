"""What the rewrite of a date does to the ledger: record its intent, claim the exchange, and flip.

Between the claim and the flip the two folders change places, and nobody can pin files: a reader
would be told of names that are not there any more. No folder is touched within a transaction.
"""

from __future__ import annotations

from collections.abc import Callable

from lake.errors import ServiceUnreachable
from lake.formats import DateRewriteIntent
from lake.ledger.core import LedgerCore
from lake.ledger.entries import OpenDateRewrite
from lake.ledger.intents import open_date_rewrites
from lake.ledger.statements import add_file, must_be_current, pins_of
from lake.storage.parquet_files import WrittenFile


class DateRewrites:
    """The public files of a date become fewer; every step can be redone."""

    def __init__(self, core: LedgerCore) -> None:
        self._core = core

    def record_intent(self, topic: str, generation: int, intent: DateRewriteIntent) -> None:
        """Record which folder is about to change places with which.

        Raises:
            CommitConflict: The table was rebuilt meanwhile.
        """
        with self._core.write() as db:
            must_be_current(db, topic, generation)
            db.execute(
                "INSERT INTO date_rewrites (topic, intent) VALUES (?, ?)", (topic, intent.dump())
            )

    def open(self) -> list[OpenDateRewrite]:
        """Date rewrites whose intent is recorded and that have not flipped yet."""
        return open_date_rewrites(self._core.db)

    def claim(self, number: int, session: str, is_alive: Callable[[str], bool]) -> bool:
        """Become the only one who may exchange the folders; from here on nobody can pin files.

        Args:
            number: The rewrite's.
            session: Who claims; a session that has ended loses its claim to the next one.
            is_alive: Whether a session still runs.

        Returns:
            Whether there is something to do: another one may have finished it.

        Raises:
            ServiceUnreachable: A reader has pinned files, or another process is at it.
        """
        with self._core.write() as db:
            found = db.execute(
                "SELECT topic, claimed_by FROM date_rewrites WHERE rewrite_id = ?", (number,)
            ).fetchone()
            if found is None:
                return False
            topic, claimed_by = found
            if claimed_by not in ("", session) and is_alive(claimed_by):
                raise ServiceUnreachable(
                    f"Another process exchanges the files of a date of {topic}.",
                    "Run it again once that has ended.",
                )
            if any(is_alive(reader) for reader, _ in pins_of(db)):
                raise ServiceUnreachable(
                    f"A date of {topic} cannot be exchanged: a reader has pinned the lake's files.",
                    "Run it again once the batch's cycle is over.",
                )
            db.execute(
                "UPDATE date_rewrites SET claimed_by = ? WHERE rewrite_id = ?", (session, number)
            )
        return True

    def release(self, number: int, session: str) -> None:
        """Give a claim back; only where the folders have not changed places."""
        with self._core.write() as db:
            db.execute(
                "UPDATE date_rewrites SET claimed_by = '' WHERE rewrite_id = ? AND claimed_by = ?",
                (number, session),
            )

    def flip(self, rewrite: OpenDateRewrite, session: str) -> None:
        """Say that the folders have changed places; files can be pinned again."""
        topic, intent = rewrite.topic, rewrite.intent
        with self._core.write() as db:
            if not db.execute(
                "DELETE FROM date_rewrites WHERE rewrite_id = ? AND claimed_by = ?",
                (rewrite.number, session),
            ).rowcount:
                return
            generation = db.execute(
                "SELECT generation FROM lake_tables WHERE topic = ?", (topic,)
            ).fetchone()[0]
            moment = self._core.moment()
            for out in intent.outputs:
                path = self._core.paths.root / out.final
                file = WrittenFile(path, out.size, out.sha256, out.rows)
                key = (topic, generation)
                add_file(db, key, "sealed", out.final, file, out.commits, moment)
            for relation in ("file_commits", "files"):
                db.executemany(
                    f"DELETE FROM {relation} WHERE file_id = ?", [(i,) for i in intent.inputs]
                )
