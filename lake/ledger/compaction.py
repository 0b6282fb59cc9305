"""What a compaction does to the ledger: announce, flip, forget."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from lake.errors import LedgerError
from lake.failpoints import failpoint
from lake.ledger.database import LakeFile, Move, SealIntent
from lake.ledger.reading import ReadingLedger
from lake.storage.files import WrittenFile


class CompactionLedger(ReadingLedger):
    """Hot files become other hot files or public ones; every step can be redone."""

    def begin_seal(self, topic: str, generation: int, intent: SealIntent) -> int:
        """Record what a compaction is about to rename; from here on it is rolled forward.

        Raises:
            CommitConflict: The table was rebuilt meanwhile; the files are those of an old state.
        """
        text = json.dumps([intent.inputs, intent.moves, intent.commits])
        with self._write() as db:
            self._must_be_current(db, topic, generation)
            seal = db.execute(
                "INSERT INTO seals (topic, intent) VALUES (?, ?)", (topic, text)
            ).lastrowid
        assert seal is not None
        return seal

    def open_seals(self) -> list[tuple[int, str, SealIntent]]:
        """Compactions that were announced and have not flipped yet: (id, topic, intent)."""
        seals = []
        for seal, topic, text in self._db.execute("SELECT seal_id, topic, intent FROM seals"):
            inputs, moves, commits = json.loads(text)
            seals.append(
                (
                    seal,
                    topic,
                    SealIntent(
                        tuple(inputs),
                        tuple(tuple(m) for m in moves),
                        tuple(tuple(c) for c in commits),
                    ),
                )
            )
        return seals

    def flip_seal(self, seal: int, topic: str, intent: SealIntent) -> None:
        """Hot becomes sealed, in one transaction; what has flipped already stays as it is."""
        with self._write() as db:
            if not db.execute("DELETE FROM seals WHERE seal_id = ?", (seal,)).rowcount:
                return
            now = self._moment(db)
            row = db.execute("SELECT generation FROM lake_tables WHERE topic = ?", (topic,))
            key = (topic, row.fetchone()[0])
            # A merged file is as old as its oldest part: its rows wait no longer to be sealed.
            oldest = db.execute(
                "SELECT min(created_at) FROM files"
                " WHERE file_id IN (SELECT value FROM json_each(?))",
                (json.dumps(intent.inputs),),
            ).fetchone()[0]
            for (_, final, rows, size, sha256), commits in zip(
                intent.moves, intent.commits, strict=True
            ):
                file = WrittenFile(self.paths.root / final, size, sha256, rows)
                tier = "hot" if final.startswith("hot/") else "sealed"
                born = oldest if tier == "hot" else now
                self._add_file(db, key, tier, final, file, commits, born)
            replaced = db.executemany(
                "UPDATE files SET obsolete_at = ? WHERE file_id = ? AND obsolete_at IS NULL",
                [(now, file_id) for file_id in intent.inputs],
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

    def begin_day(self, topic: str, generation: int, intent: str) -> None:
        """Record which folder is about to change places with which.

        Raises:
            CommitConflict: The table was rebuilt meanwhile.
        """
        with self._write() as db:
            self._must_be_current(db, topic, generation)
            db.execute("INSERT INTO days (topic, intent) VALUES (?, ?)", (topic, intent))

    def announced_paths(self) -> frozenset[str]:
        """Relative paths, old and new, of the files that announced compactions make."""
        moves = [move for _, _, intent in self.open_seals() for move in intent.moves]
        moves += [move for _, _, text in self.open_days() for move in json.loads(text)[3]]
        return frozenset(path for move in moves for path in move[:2])

    def open_days(self) -> list[tuple[int, str, str]]:
        """Announced swaps of day folders: (id, topic, intent as JSON)."""
        return self._db.execute("SELECT day_id, topic, intent FROM days").fetchall()

    def flip_day(
        self,
        day: int,
        topic: str,
        inputs: Sequence[int],
        moves: Sequence[Move],
        commits: Sequence[Sequence[int]],
        is_alive: Callable[[str], bool],
        swap: Callable[[], None],
    ) -> bool:
        """Swap a day's folder and say so, while nobody can pin.

        Args:
            day: The announcement's id.
            topic: The table.
            inputs: Ids of the files that are gone after the swap.
            moves: The files that are there instead.
            commits: The commits whose rows each of them holds.
            is_alive: Whether a session that has pinned files still runs.
            swap: Swaps the folders, unless that was done already.

        Returns:
            False where somebody has pinned files: nothing was done.
        """
        with self._write() as db:
            if any(is_alive(session) for session, _ in self.pins()):
                return False
            swap()
            generation = db.execute(
                "SELECT generation FROM lake_tables WHERE topic = ?", (topic,)
            ).fetchone()[0]
            now = self._moment(db)
            for (_, final, rows, size, sha256), numbers in zip(moves, commits, strict=True):
                file = WrittenFile(self.paths.root / final, size, sha256, rows)
                self._add_file(db, (topic, generation), "sealed", final, file, numbers, now)
            for relation in ("file_commits", "files"):
                db.executemany(f"DELETE FROM {relation} WHERE file_id = ?", [(i,) for i in inputs])
            db.execute("DELETE FROM days WHERE day_id = ?", (day,))
        return True

    def obsolete_files(self, before: float) -> tuple[LakeFile, ...]:
        """Files that were replaced before a pin's moment."""
        return self._lake_files("WHERE obsolete_at < ?", (before,))

    def forget_file(self, file_id: int) -> None:
        """Drop the row of a replaced file, after the file itself."""
        with self._write() as db:
            db.execute(
                "DELETE FROM files WHERE file_id = ? AND obsolete_at IS NOT NULL", (file_id,)
            )
