"""What a killed process left: half-done compactions are finished, orphans are moved aside."""

from __future__ import annotations

import shutil
from pathlib import Path

import structlog

from consumers.planning import unknown_files
from ducklake.errors import LedgerError
from ducklake.failpoints import failpoint
from ducklake.lake.files import move_aside, move_into_place, session_is_alive
from ducklake.lake.ledger import Ledger, SealIntent
from ducklake.lake.paths import LakePaths

log = structlog.get_logger()


def recover(ledger: Ledger) -> int:
    """Move aside what sessions with a free lock left; files of living sessions are not touched.

    Returns:
        How many files were moved to the orphans.
    """
    paths = ledger.paths
    moved = 0
    # Listed before the ledger is asked: a file that is renamed and committed in between is known.
    found = [paths.relative(p) for p in (paths.root / "hot").glob("*/*/*.parquet")]
    for relative in unknown_files(found, ledger.known_paths("hot")):
        path = paths.root / relative
        if not session_is_alive(paths, path.name.partition("-")[0]):
            moved += _aside(paths, path)
    kept = {staged for _, _, intent in ledger.open_seals() for staged, *_ in intent.moves}
    for folder in paths.staging.glob("[!.]*"):
        if session_is_alive(paths, folder.name):
            continue
        files = [p for p in folder.glob("*.parquet") if paths.relative(p) not in kept]
        moved += sum(_aside(paths, path) for path in files)
        failpoint("recover.before_remove")
        if not any(folder.glob("*.parquet")):
            shutil.rmtree(folder, ignore_errors=True)
    return moved


def _aside(paths: LakePaths, path: Path) -> int:
    failpoint("recover.before_move")
    try:
        target = move_aside(paths, path)
    except FileNotFoundError:
        return 0  # another process recovered at the same moment
    log.warning("orphan moved aside", file=str(target))
    return 1


def finish_seal(ledger: Ledger, seal: int, topic: str, intent: SealIntent) -> None:
    """Rename what is announced and flip; every step can be redone.

    Raises:
        LedgerError: A file of the announced compaction is in neither place.
    """
    root = ledger.paths.root
    for staged, final, *_ in intent.moves:
        failpoint("seal.before_move")
        if (root / staged).exists():
            move_into_place(root / staged, root / final)
        elif not (root / final).exists():
            raise LedgerError(
                f"{root / final} was announced and is neither there nor at {root / staged}.",
                "Restore the file from a backup; the hot files that it replaces are still there.",
            )
    failpoint("seal.before_flip")
    ledger.flip_seal(seal, topic, intent)
    failpoint("seal.after_flip")
