"""Rows that are not read again come along by reference: their files get a second name.

A file of which only a part is wanted is copied, that part of it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from consumers.replay.segments import Target
from lake.errors import LedgerError
from lake.failpoints import failpoint
from lake.formats import Footer
from lake.ledger import BuiltFile, CommittedFile, Ledger, Segment, TableState
from lake.ledger.files import joined
from lake.records import Kind, OffsetRange
from lake.recovery import pinned
from lake.storage.operations import link, make_folder, move_into_place, sync_folder
from lake.storage.parquet_files import ROW_GROUP_ROWS, ParquetSink, WrittenFile, is_whole
from lake.storage.paths import SealedName
from lake.storage.session import Session
from lake.storage.sql import rows_query, spilling

Keep = Callable[[OffsetRange], Sequence[OffsetRange]]


class FileReuse:
    """Takes rows of the current generation over into one that is being built.

    Args:
        ledger: The ledger.
        session: Keeps files from being deleted while they get their second names.
        target: The new generation.
        kind: Of the table.
        keep: What of a range is taken over; the rows of a part of it are -1.
    """

    def __init__(
        self, ledger: Ledger, session: Session, target: Target, kind: Kind, keep: Keep
    ) -> None:
        self._ledger = ledger
        self._session = session
        self._target = target
        self._kind = kind
        self._keep = keep
        self._db = spilling(session, 400)
        self._undamaged: set[Path] = set()
        self.rows = 0

    def close(self) -> None:
        """Let go of what it reads with."""
        self._db.close()

    def take_over(self, state: TableState, after: int, up_to: int) -> None:
        """Take over what was committed after one commit, up to and including another.

        Raises:
            LedgerError: A file of which something is kept is missing; one of which a part is kept
                is damaged.
        """
        with pinned(self._ledger, self._session):
            files = self._ledger.files.contents(state.topic, state.generation, after, up_to)
            commits: dict[int, tuple[OffsetRange, ...]] = {}
            offsets = self._ledger.offsets
            committed = offsets.committed(state.topic, state.generation, after, up_to)
            for number, ranges in committed.items():
                kept = [part for whole in ranges for part in self._keep(whole)]
                if kept:
                    commits[number] = tuple(self._counted(state, files, number, k) for k in kept)
            if not commits:
                return
            index = {number: place for place, number in enumerate(commits)}
            built = [b for file in files if (b := self._take(state, file, commits, index))]
            for folder in {b.file.path.parent for b in built}:
                sync_folder(folder)
        failpoint("replay.before_reuse")
        self._ledger.generations.add_segment(
            state.topic,
            self._target.generation,
            self._target.session,
            Segment(tuple(commits.values()), tuple(built), dead_letters_from=state.generation),
        )
        failpoint("replay.after_reuse")
        self.rows += sum(kept.rows for ranges in commits.values() for kept in ranges)

    def _counted(
        self,
        state: TableState,
        files: Sequence[CommittedFile],
        number: int,
        offset_range: OffsetRange,
    ) -> OffsetRange:
        """A part of a range with the number of its rows."""
        if offset_range.rows >= 0:
            return offset_range
        paths = [
            self._checked(f, state.topic)
            for f in files
            if number in f.commits and f.topic_id == offset_range.topic_id
        ]
        query = rows_query(state.schema.relation(self._kind), paths, [offset_range])
        [(rows,)] = self._db.execute(f"SELECT count(*) FROM ({query})").fetchall()
        return OffsetRange(
            offset_range.topic_id,
            offset_range.partition,
            offset_range.first,
            offset_range.last,
            rows,
        )

    def _take(
        self,
        state: TableState,
        file: CommittedFile,
        commits: dict[int, tuple[OffsetRange, ...]],
        index: dict[int, int],
    ) -> BuiltFile | None:
        """A file of the new generation with what is kept of an old one; None: nothing is.

        Raises:
            LedgerError: The old one is missing, or damaged where it must be read.
        """
        kept = [
            offset_range
            for number in file.commits
            for offset_range in commits.get(number, ())
            if file.may_hold(offset_range)
        ]
        if not any(offset_range.rows for offset_range in kept):
            return None
        mine = tuple(index[number] for number in file.commits if number in index)
        whole = all(number in commits for number in file.commits) and all(
            self._keep(offset_range) == [offset_range]
            for offset_range in file.ranges
            if file.may_hold(offset_range)
        )
        # A hot file's footer must say its generation: there is no folder that says it.
        if whole and file.tier == "sealed":
            return BuiltFile(file.tier, self._linked(file, state.topic), mine, file.created_at)
        made = self._copied(state, file, kept)
        return None if made is None else BuiltFile(file.tier, made, mine, file.created_at)

    def _checked(self, file: CommittedFile, topic: str) -> Path:
        """A file that is read: what is damaged must not get a checksum of its own."""
        path = _there(file.path, topic)
        if path not in self._undamaged:
            if not is_whole(path, file.sha256):
                raise _unusable(path, "damaged", topic)
            self._undamaged.add(path)
        return path

    def _place(self, file: CommittedFile, name: str) -> Path:
        paths, target = self._ledger.paths, self._target
        if file.tier == "hot":
            return paths.hot(target.ref) / f"{target.session}-{secrets.token_hex(8)}.parquet"
        old_tree = paths.raw(target.ref, file.generation)
        return (
            paths.raw(target.ref, target.generation) / file.path.parent.relative_to(old_tree) / name
        )

    def _linked(self, file: CommittedFile, topic: str) -> WrittenFile:
        """A second name: nothing is read."""
        old = _there(file.path, topic)
        final = self._place(file, file.path.name)
        make_folder(final.parent)
        link(old, final)
        return WrittenFile(final, file.bytes, file.sha256, file.rows)

    def _copied(
        self, state: TableState, file: CommittedFile, kept: Sequence[OffsetRange]
    ) -> WrittenFile | None:
        path = self._checked(file, state.topic)
        query = rows_query(state.schema.relation(self._kind), [path], joined(kept))
        reader = self._db.execute(f"{query} ORDER BY _partition, _offset").to_arrow_reader(
            ROW_GROUP_ROWS
        )
        sink: ParquetSink | None = None
        last = -1
        for batch in reader:
            if batch.num_rows:
                staged = self._target.folder / f"generation-{secrets.token_hex(8)}"
                sink = sink or ParquetSink(staged, batch.schema)
                sink.write(batch)
                last = batch.column("_offset")[-1].as_py()
        if sink is None:
            return None
        newest = self._ledger.commits.newest_number()
        target = self._target
        topic, number = target.ref.topic, target.generation
        about = Footer(topic, number, tuple(kept), newest, state.schema, building=True)
        made = sink.close(about.dump())
        first = min(offset_range.first for offset_range in kept)
        name = SealedName(kept[0].topic_id, kept[0].partition, first, last).name()
        final = self._place(file, name)
        move_into_place(made.path, final)
        return WrittenFile(final, made.size, made.sha256, made.rows)


def _there(path: Path, topic: str) -> Path:
    """A file that is needed."""
    if not path.exists():
        raise _unusable(path, "missing", topic)
    return path


def _unusable(path: Path, how: str, topic: str) -> LedgerError:
    return LedgerError(
        f"{path} is {how}, and its rows are not read again.",
        f"`ducklake replay {topic}` rewrites it if Kafka holds them; then start the"
        " rebuild again. Nothing has changed.",
    )
