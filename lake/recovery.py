"""What a killed process left: half-done compactions are finished, orphans go to quarantine."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import structlog

from lake.config import TableRef
from lake.errors import DateHeld, DiskFull, LedgerError, ServiceUnreachable, TerminalError
from lake.failpoints import failpoint
from lake.ledger import Ledger
from lake.ledger.entries import OpenCompaction
from lake.storage.operations import (
    exchange_folders,
    found_in,
    make_folder,
    move_into_place,
    remove_file,
    remove_tree,
    sync_folder,
)
from lake.storage.paths import LakePaths, unknown_files
from lake.storage.quarantine import quarantine
from lake.storage.session import Session, session_is_alive

log = structlog.get_logger()
EXCHANGE_SECONDS = 30.0
LOOK_SECONDS = 0.02


def recover(ledger: Ledger) -> int:
    """Quarantine what sessions with a free lock left; files of living sessions are not touched.

    Files first, then whether their session lives, and the ledger last: what a dead session has
    not committed or recorded by then it never will.

    Returns:
        How many files were quarantined.
    """
    paths = ledger.paths
    left = [p for p in (paths.root / "hot").glob("*/*/*.parquet") if not _is_owned(paths, p)]
    folders = [f for f in paths.staging.glob("[!.]*") if not session_is_alive(paths, f.name)]
    left += [p for folder in folders for p in found_in(folder, "*.parquet")]
    failpoint("recover.before_look")
    # A date's staging folder that no intent names holds only links and copies of what is there.
    intended_folders = {rewrite.intent.staging for rewrite in ledger.date_rewrites.open()}
    for folder in folders:
        for date_folder in found_in(folder, "day-*"):
            if paths.relative(date_folder) not in intended_folders:
                remove_tree(date_folder)
    # Intents before known files: what flips in between is in both.
    intended = ledger.intended_paths()
    known = intended | ledger.files.known_paths("hot")
    orphans = unknown_files((paths.relative(p) for p in left), known)
    moved = sum(_quarantine(paths, paths.root / relative) for relative in orphans)
    failpoint("recover.before_remove")
    for folder in folders:
        if not found_in(folder, "*.parquet") and not found_in(folder, "day-*"):
            remove_tree(folder)
    failpoint("recover.after_remove")
    return moved


def drop_abandoned(ledger: Ledger) -> None:
    """Forget what a killed rebuild left; its rows are still in Kafka and in the old generation."""
    alive = partial(session_is_alive, ledger.paths)
    for topic, generation, session in ledger.generations.abandoned(alive):
        if not ledger.generations.drop_abandoned(topic, generation, session):
            continue
        delete_replaced(ledger)
        # Files that it had not added yet have names only there.
        tree = ledger.paths.raw(TableRef(*topic.split(".", 1)), generation)
        remove_tree(tree)
        log.warning(
            "abandoned_rebuild_dropped",
            message="The partial files of a killed rebuild were deleted.",
            table=topic,
            generation=generation,
        )


def delete_replaced(ledger: Ledger) -> None:
    """Delete files that were replaced, once no living reader has pinned an older state."""
    oldest = math.inf
    for session, pinned_at in ledger.pins.all():
        if session_is_alive(ledger.paths, session):
            oldest = min(oldest, pinned_at)
        else:
            ledger.pins.unpin(session)
    for file in ledger.files.obsolete(before=oldest):
        failpoint("seal.before_delete")
        remove_file(file.path)
        failpoint("seal.before_forget")
        ledger.files.forget(file.file_id)
        failpoint("seal.after_forget")


def _is_owned(paths: LakePaths, hot: Path) -> bool:
    """Whether the process that wrote a hot file still runs."""
    return session_is_alive(paths, hot.name.partition("-")[0])


def _quarantine(paths: LakePaths, path: Path) -> int:
    failpoint("recover.before_move")
    try:
        target = quarantine(paths, path)
    except FileNotFoundError:
        return 0  # another process recovered at the same moment
    except DiskFull as error:
        log.warning(
            "orphan_not_moved",
            message="There is no room to move an orphaned file to quarantine; it stays.",
            file=str(path),
            reason=str(error),
        )
        return 0  # it harms nobody there
    failpoint("recover.after_move")
    log.warning(
        "orphan_quarantined",
        message="A file that no commit references was moved to orphans/.",
        file=str(target),
    )
    return 1


@contextmanager
def pinned(ledger: Ledger, session: Session) -> Iterator[int]:
    """Keep every file that is live now, for the time of the block; gives the newest commit.

    Where the files of a date are being exchanged, it waits; what a process left that was killed
    while it did, is finished here.

    Raises:
        ServiceUnreachable: The exchange does not end.
    """
    try:
        yield _pin(ledger, session)
    finally:
        ledger.pins.unpin(session.id)


def _pin(ledger: Ledger, session: Session) -> int:
    deadline = time.monotonic() + EXCHANGE_SECONDS
    while True:
        try:
            return ledger.pins.pin(session.id)
        except DateHeld:
            if time.monotonic() > deadline:
                raise ServiceUnreachable(
                    f"The files of a date have been exchanged for {EXCHANGE_SECONDS:.0f} s.",
                    "A stopped `ducklake compact --days` may hold them: resume it, or kill it.",
                ) from None
        with suppress(ServiceUnreachable):  # the one who is at it still runs
            finish_date_rewrites(ledger, session, claimed=True)
        threading.Event().wait(LOOK_SECONDS)


def finish_compactions(ledger: Ledger) -> None:
    """Rename what open intents name and flip; every step can be redone.

    Raises:
        LedgerError: A file of an intent is in neither place, or in both.
    """
    for compaction in ledger.compactions.open():
        _finish_compaction(ledger, compaction)


def _finish_compaction(ledger: Ledger, compaction: OpenCompaction) -> None:
    root = ledger.paths.root
    for out in compaction.intent.outputs:
        failpoint("seal.before_move")
        _put(root / out.staged, root / out.final)
        failpoint("seal.after_move")
    failpoint("seal.before_flip")
    ledger.compactions.flip(compaction.number, compaction.topic, compaction.intent)
    failpoint("seal.after_flip")


def _put(staged: Path, final: Path) -> None:
    if final.exists():
        if staged.exists() and not staged.samefile(final):
            raise LedgerError(
                f"{final} already exists, and an intent in the ledger names it; a public file is"
                " never replaced.",
                f"Find out who put it there, move it out of the lake, and start again: {staged}"
                " is the one that is meant.",
            )
        # Whoever renamed it may have died before the name was safe.
        make_folder(final.parent)
        sync_folder(final.parent)
        remove_file(staged)  # the same file, by its old name
    elif staged.exists():
        move_into_place(staged, final, intended=True)
    else:
        raise LedgerError(
            f"An intent in the ledger names {final}, and it is neither there nor at {staged}.",
            "Restore the file from a backup; the hot files that it replaces are still there.",
        )


def finish_date_rewrites(ledger: Ledger, session: Session, claimed: bool = False) -> None:
    """Exchange the folders that open intents name and flip; every step can be redone.

    Args:
        ledger: The ledger.
        session: Whose claim on the exchange it is.
        claimed: Only what somebody has claimed already.

    Raises:
        ServiceUnreachable: A reader has pinned files, or another process is at it.
        TerminalError: The file system cannot exchange two folders.
    """
    alive = partial(session_is_alive, ledger.paths)
    for rewrite in ledger.date_rewrites.open():
        if claimed and not rewrite.claimed_by:
            continue
        if not ledger.date_rewrites.claim(rewrite.number, session.id, alive):
            continue
        failpoint("days.after_claim")
        root, intent = ledger.paths.root, rewrite.intent
        new_file = root / intent.outputs[0].final
        try:
            _exchange(root / intent.folder, root / intent.staging, new_file)
        except (OSError, TerminalError):
            if not new_file.exists():
                ledger.date_rewrites.release(rewrite.number, session.id)
            raise
        ledger.date_rewrites.flip(rewrite, session.id)
        failpoint("days.before_remove")
        remove_tree(root / intent.staging)


def _exchange(folder: Path, staging: Path, new_file: Path) -> None:
    """Let two folders change places, unless they did before."""
    failpoint("days.before_swap")
    if not new_file.exists():
        exchange_folders(folder, staging)
    for changed in (folder, staging, folder.parent, staging.parent):
        sync_folder(changed)
    failpoint("days.after_swap")
