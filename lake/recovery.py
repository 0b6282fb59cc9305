"""What a killed process left: half-done compactions are finished, orphans are moved aside."""

from __future__ import annotations

import ctypes
import errno
import json
import math
import os
import shutil
from functools import partial
from pathlib import Path

import structlog

from lake.config import TableRef
from lake.errors import DiskFull, LedgerError, ServiceUnreachable, TerminalError
from lake.failpoints import failpoint
from lake.ledger import Ledger, SealIntent
from lake.storage.files import (
    make_folder,
    move_aside,
    move_into_place,
    session_is_alive,
    sync_folder,
)
from lake.storage.paths import LakePaths, unknown_files

log = structlog.get_logger()
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def _found(folder: Path, pattern: str) -> list[Path]:
    """What lies in a folder that somebody else may remove meanwhile: another one recovers, too."""
    try:
        return list(folder.glob(pattern))
    except FileNotFoundError:
        return []


def recover(ledger: Ledger) -> int:
    """Move aside what sessions with a free lock left; files of living sessions are not touched.

    Files first, then whether their session lives, and the ledger last: what a dead session has
    not committed or announced by then it never will.

    Returns:
        How many files were moved to the orphans.
    """
    paths = ledger.paths
    left = [p for p in (paths.root / "hot").glob("*/*/*.parquet") if not _is_owned(paths, p)]
    folders = [f for f in paths.staging.glob("[!.]*") if not session_is_alive(paths, f.name)]
    left += [p for folder in folders for p in _found(folder, "*.parquet")]
    failpoint("recover.before_look")
    # A folder beside that was never announced holds only links and copies of what is there.
    announced_days = {json.loads(text)[1] for _, _, text in ledger.open_days()}
    for folder in folders:
        for beside in _found(folder, "day-*"):
            if paths.relative(beside) not in announced_days:
                shutil.rmtree(beside, ignore_errors=True)
    # Announced before known: what flips in between is in both.
    announced = ledger.announced_paths()
    known = announced | ledger.known_paths("hot")
    orphans = unknown_files((paths.relative(p) for p in left), known)
    moved = sum(_aside(paths, paths.root / relative) for relative in orphans)
    failpoint("recover.before_remove")
    for folder in folders:
        if not _found(folder, "*.parquet") and not _found(folder, "day-*"):
            shutil.rmtree(folder, ignore_errors=True)
    failpoint("recover.after_remove")
    return moved


def drop_abandoned(ledger: Ledger) -> None:
    """Forget what a killed rebuild left; its rows are still in Kafka and in the old generation."""
    alive = partial(session_is_alive, ledger.paths)
    for topic, generation, session in ledger.abandoned(alive):
        if not ledger.drop_abandoned(topic, generation, session):
            continue
        delete_replaced(ledger)
        # Files that it had not announced yet have names only there.
        tree = ledger.paths.raw(TableRef(*topic.split(".", 1)), generation)
        shutil.rmtree(tree, ignore_errors=True)
        log.warning(
            "abandoned_rebuild_dropped",
            message="What a killed rebuild left is deleted.",
            table=topic,
            generation=generation,
        )


def delete_replaced(ledger: Ledger) -> None:
    """Delete files that were replaced, once no living reader has pinned an older state."""
    oldest = math.inf
    for session, pinned_at in ledger.pins():
        if session_is_alive(ledger.paths, session):
            oldest = min(oldest, pinned_at)
        else:
            ledger.unpin(session)
    for file in ledger.obsolete_files(before=oldest):
        failpoint("seal.before_delete")
        file.path.unlink(missing_ok=True)
        failpoint("seal.before_forget")
        ledger.forget_file(file.file_id)
        failpoint("seal.after_forget")


def _is_owned(paths: LakePaths, hot: Path) -> bool:
    """Whether the process that wrote a hot file still runs."""
    return session_is_alive(paths, hot.name.partition("-")[0])


def _aside(paths: LakePaths, path: Path) -> int:
    failpoint("recover.before_move")
    try:
        target = move_aside(paths, path)
    except FileNotFoundError:
        return 0  # another process recovered at the same moment
    except DiskFull as error:
        log.warning(
            "orphan_not_moved",
            message="There is no room to move an orphaned file aside; it stays.",
            file=str(path),
            reason=str(error),
        )
        return 0  # it harms nobody there
    failpoint("recover.after_move")
    log.warning(
        "orphan_moved", message="A file that no commit knows was moved aside.", file=str(target)
    )
    return 1


def finish_seal(ledger: Ledger, seal: int, topic: str, intent: SealIntent) -> None:
    """Rename what is announced and flip; every step can be redone.

    Raises:
        LedgerError: A file of the announced compaction is in neither place, or in both.
    """
    root = ledger.paths.root
    for staged, final, *_ in intent.moves:
        failpoint("seal.before_move")
        _put(root / staged, root / final)
        failpoint("seal.after_move")
    failpoint("seal.before_flip")
    ledger.flip_seal(seal, topic, intent)
    failpoint("seal.after_flip")


def _put(staged: Path, final: Path) -> None:
    if final.exists():
        if staged.exists() and not staged.samefile(final):
            raise LedgerError(
                f"{final} is announced and there already; a public file is never replaced.",
                f"Find out who put it there, move it out of the lake, and start again: {staged}"
                " is the announced one.",
            )
        # Whoever renamed it may have died before the name was safe.
        make_folder(final.parent)
        sync_folder(final.parent)
        staged.unlink(missing_ok=True)  # the same file, by its old name
    elif staged.exists():
        move_into_place(staged, final, announced=True)
    else:
        raise LedgerError(
            f"{final} was announced and is neither there nor at {staged}.",
            "Restore the file from a backup; the hot files that it replaces are still there.",
        )


def finish_date_rewrites(ledger: Ledger) -> None:
    """Swap what is announced and flip it in the ledger; every step can be redone.

    Raises:
        ServiceUnreachable: A reader has pinned files; the announcement stays.
    """
    root = ledger.paths.root
    for number, topic, text in ledger.open_days():
        folder, beside, inputs, moves, commits = json.loads(text)

        done = ledger.flip_day(
            number,
            topic,
            inputs,
            [tuple(move) for move in moves],
            commits,
            lambda session: session_is_alive(ledger.paths, session),
            partial(_swap, root / folder, root / beside, root / moves[0][1]),
        )
        if not done:
            raise ServiceUnreachable(
                f"{folder} cannot be swapped: a reader has pinned the lake's files.",
                "Run it again once the batch's cycle is over.",
            )
        failpoint("days.before_remove")
        shutil.rmtree(root / beside, ignore_errors=True)


def _swap(day: Path, beside: Path, new_file: Path) -> None:
    failpoint("days.before_swap")
    if not new_file.exists():
        _exchange(day, beside)
    for changed in (day, beside, day.parent, beside.parent):
        sync_folder(changed)
    failpoint("days.after_swap")


def _exchange(one: Path, other: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    paths = (os.fsencode(one), os.fsencode(other))
    if libc.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0:
        return
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS):
        raise TerminalError(
            f"The file system of {one} cannot swap two folders.", "Use ext4, XFS or Btrfs."
        )
    raise OSError(number, os.strerror(number), str(one))
