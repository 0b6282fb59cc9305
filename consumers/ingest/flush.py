"""One flush: rows to a hot file, and the commit that makes it exist."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import structlog

from lake.config import TableRef
from lake.errors import DiskFull, DuckLakeError
from lake.failpoints import failpoint
from lake.formats import Footer
from lake.ledger import Ledger, LedgerReader, TableState
from lake.openlineage.recording import consumed
from lake.processes.instruments import FLUSH_SECONDS, FLUSHED, FLUSHED_BYTES
from lake.records import DeadLetter, OffsetRange
from lake.storage.operations import move_into_place, remove_file
from lake.storage.parquet_files import WrittenFile, write_parquet
from lake.storage.schema import Schema
from lake.storage.session import Session

log = structlog.get_logger()
_MOST_NAMES = 20


@dataclass(frozen=True, slots=True)
class Flush:
    """What of one table becomes one commit.

    Attributes:
        state: The table as the writer opened it.
        starts: The position of each partition from which the writer started; None: none yet.
        ranges: What was read, one range a partition.
        rows: Ordered by partition and offset; None: the ranges hold none.
        schema: The schema of the rows.
        dead_letters: Records of the ranges that could not be decoded.
    """

    state: TableState
    starts: Mapping[int, int | None]
    ranges: Sequence[OffsetRange]
    rows: pa.Table | None
    schema: Schema
    dead_letters: Sequence[DeadLetter] = ()


@dataclass(frozen=True, slots=True)
class HotRows:
    """What a hot file holds.

    Attributes:
        ref: The table.
        generation: Of the table.
        schema: Of the table.
        rows: Ordered by partition and offset.
        ranges: The offsets from which they come.
        replaces: A damaged file whose rows these are, relative to the lake.
        building: Whether the generation is not the current one yet.
    """

    ref: TableRef
    generation: int
    schema: Schema
    rows: pa.Table
    ranges: Sequence[OffsetRange]
    replaces: str = ""
    building: bool = False


def commit_flush(ledger: Ledger, session: Session, ref: TableRef, flush: Flush) -> int:
    """Write, sync, rename, sync the folder, then commit; the order is the promise.

    Returns:
        The commit's number.

    Raises:
        CommitConflict: Another process committed first; the file of this flush is gone again.
        DiskFull: Nothing was committed; the same flush can be tried again.
    """
    began = time.monotonic()
    failpoint("commit.before_write")
    file, state = None, flush.state
    if flush.rows is not None:
        rows = HotRows(ref, state.generation, flush.schema, flush.rows, flush.ranges)
        file = write_hot(ledger, session, rows)
    failpoint("commit.before_ledger")
    with gone_unless_taken(ledger, file):
        number = ledger.commits.add(
            state,
            session.id,
            flush.ranges,
            flush.starts,
            file,
            flush.schema,
            flush.dead_letters,
        )
    failpoint("commit.after_ledger")
    FLUSH_SECONDS.observe(time.monotonic() - began)
    if file is not None:
        FLUSHED.labels(ref.topic).inc(file.rows)
        FLUSHED_BYTES.labels(ref.topic).inc(file.size)
        consumed(ref, flush.schema, file.rows, file.size)
    return number


@contextmanager
def gone_unless_taken(ledger: LedgerReader, file: WrittenFile | None) -> Iterator[None]:
    """A file of one's own that the ledger refuses goes at once.

    Each try on a full disk would leave one more. It stays where the ledger took it after all.
    """
    try:
        yield
    except DuckLakeError:
        if file is not None and not ledger.files.knows(file.path):
            remove_file(file.path)
        raise


def write_hot(ledger: LedgerReader, session: Session, hot: HotRows) -> WrittenFile:
    """Write a hot file, durably; it exists once a commit says so.

    Args:
        ledger: Says how far commits have come.
        session: The writer's.
        hot: What it holds.

    Raises:
        DiskFull: Nothing is left of it.
    """
    paths = ledger.paths
    name = f"{session.id}-{secrets.token_hex(8)}.parquet"
    about = Footer(
        hot.ref.topic,
        hot.generation,
        tuple(hot.ranges),
        ledger.commits.newest_number(),
        hot.schema,
        hot.building,
        hot.replaces,
    )
    staged = write_parquet(hot.rows, session.folder / name, about.dump())
    failpoint("commit.before_move")
    final = paths.hot(hot.ref) / name
    try:
        move_into_place(staged.path, final)
    except DiskFull:
        remove_file(staged.path)
        remove_file(final)
        raise
    return WrittenFile(final, staged.size, staged.sha256, staged.rows)


def log_committed(topic: str, flush: Flush) -> None:
    """Say of a commit what somebody should know: its dead letters, and names that are others."""
    log_dead_letters(topic, flush.dead_letters)
    known = {column.name for column in flush.state.schema.columns}
    renamed = {
        ascii(column.field)[1:-1]: column.name
        for column in flush.schema.columns
        if not column.provenance and column.name != column.field and column.name not in known
    }
    if renamed:
        log.info(
            "columns_named",
            message="Columns have other names than the fields that they hold.",
            table=topic,
            count=len(renamed),
            names=dict(list(renamed.items())[:_MOST_NAMES]),
        )


def log_dead_letters(topic: str, dead_letters: Sequence[DeadLetter]) -> None:
    """Say that a commit had dead letters, with the first one's reason."""
    counted = [letter for letter in dead_letters if letter.state == "dropped"]
    if counted:
        log.warning(
            "dead_letters_dropped",
            message="Records could not be decoded; as configured, they are counted and not kept.",
            table=topic,
            count=len(counted),
            reason=counted[0].reason,
        )
    dead_letters = [letter for letter in dead_letters if letter.state != "dropped"]
    if not dead_letters:
        return
    first = dead_letters[0]
    log.warning(
        "dead_letters_committed",
        message="Records could not be decoded and are in raw.dead_letters.",
        table=topic,
        count=len(dead_letters),
        reason=first.reason,
        partition=first.partition,
        offset=first.offset,
    )
