"""What a disk may hold after a power cut: a model that replays recorded system calls.

After ALICE (Pillai et al., 2014) and CrashMonkey (Mohan et al., 2018). The model is weaker than any
file system that people use, so that no order is taken for granted that POSIX does not promise:

- What is in a file is durable up to the file's last fsync or fdatasync, its size included. Each
  later write (and truncation) may be there wholly, or its beginning, or not at all, each on its
  own, whatever came before or after it.
- The names in a folder (made, linked, renamed, removed) are durable up to the last fsync of that
  folder. Each later change may be there or not, each on its own. A rename within one folder is
  there or not as a whole; a rename into another folder is two changes, of which each may be there
  without the other. Two folders that change places (RENAME_EXCHANGE, which only file systems with a
  journal can) do so as a whole, durable once both of their parents are synced.
- A file or folder that no durable name leads to is gone, with all that is in it.

The crash may come after any call. `states` gives, for each moment: all that was not synced is
lost; all of it is there; each single change lost; each single change alone there; writes torn;
and a random sample of the other combinations. Equal states are given once.

SQLite's shared memory (`-shm`) is made anew after a crash and is no part of a state; nothing else
may be written through memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.crash.power_disk import Change, Data, Disk, Entries, Names, Size
from tests.crash.power_trace import MARK, Call

BARE = "nothing survives"


@dataclass(frozen=True, slots=True)
class State:
    """What is on the disk.

    Attributes:
        said: What the processes had said of themselves by then.
        why: Which moment and which choice of changes this is.
        bare: Nothing of what was not synced is there.
    """

    entries: Entries
    said: dict[str, Any]
    why: str
    bare: bool

    def digest(self) -> str:
        """Equal for equal states."""
        parts = [
            f"{path}\0{inode}\0{'' if content is None else hashlib.sha256(content).hexdigest()}"
            for path, (inode, content) in sorted(self.entries.items())
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def write_into(self, folder: Path) -> None:
        """Make this state a folder's content; a file with two names gets two names."""
        made: dict[int, Path] = {}
        for path, (inode, content) in sorted(self.entries.items()):
            at = folder / path
            if content is None:
                at.mkdir()
            elif inode in made:
                os.link(made[inode], at)
            else:
                at.write_bytes(content)
                made[inode] = at


@dataclass(frozen=True, slots=True)
class Mark:
    """What a recorded process said of itself; `settled`: the disk had time to write everything."""

    lake: str
    settled: bool
    said: dict[str, Any]


def mark(lake: str, settled: bool = False, **said: Any) -> bytes:
    """What a process writes to its standard output."""
    return MARK + json.dumps([lake, settled, said]).encode() + b"\n"


def mark_of(call: Call) -> Mark | None:
    """The mark that a call wrote; None: it wrote something else."""
    if call.name != "write" or not call.text(1).startswith(MARK):
        return None
    return Mark(*json.loads(call.text(1).removeprefix(MARK)))


def states(root: Path, calls: Iterable[Call], chance: random.Random, sample: int) -> list[State]:
    """What a crash could leave of one lake, at any moment after its first mark that it settled.

    Args:
        root: The lake's folder; its name is that of the marks.
        calls: All calls.
        chance: Chooses combinations.
        sample: How many of them at each moment.
    """
    found: dict[str, State] = {}
    disk = Disk(root)
    said: dict[str, Any] | None = None

    def look(moment: str, choices: Iterator[Choice]) -> None:
        for why, kept, torn in choices:
            bare = why == BARE
            state = State(disk.left(kept, torn), dict(said or {}), f"{moment}: {why}", bare)
            digest = state.digest()
            # What was said last asks for most.
            was_bare = digest in found and found[digest].bare
            found[digest] = replace(state, bare=bare or was_bare)

    for number, call in enumerate(calls):
        moment = f"after call {number} ({call.name})"
        told = mark_of(call)
        if told is not None:
            if told.lake == root.name and (told.settled or said is not None):
                if told.settled:
                    disk.settle()
                said = {**(said or {}), **told.said}
                look(moment, combinations(disk.unsynced, chance, sample))
            continue
        if said is None:
            disk.apply(call)
            continue
        # A sync takes choices away: before it, all combinations.
        if call.name in ("fsync", "fdatasync"):
            look(f"before call {number} ({call.name})", combinations(disk.unsynced, chance, sample))
        if disk.apply(call):
            look(moment, all_or_nothing(disk.unsynced))
    look("at the end", combinations(disk.unsynced, chance, sample))
    return list(found.values())


def some(found: Sequence[State], limit: int, chance: random.Random) -> list[State]:
    """All bare states, and as many of the others as there is time for; 0: all of them."""
    bare = [state for state in found if state.bare]
    others = [state for state in found if not state.bare]
    wanted = min(len(others), max(limit - len(bare), 0))
    return bare + (chance.sample(others, wanted) if limit else others)


Choice = tuple[str, Iterable[int], int | None]
"""What it is, which of the unsynced changes survive, and which of them is torn."""


def all_or_nothing(unsynced: Sequence[Change]) -> Iterator[Choice]:
    """Everything survives, or nothing does."""
    yield BARE, (), None
    yield "everything survives", range(len(unsynced)), None


def combinations(
    unsynced: Sequence[Change], chance: random.Random, sample: int
) -> Iterator[Choice]:
    """Each change lost, each alone, writes torn, and some of the rest."""
    yield from all_or_nothing(unsynced)
    every = range(len(unsynced))
    for index, change in enumerate(unsynced):
        what = described(change)
        others = [other for other in every if other != index]
        yield f"all but {what}", others, None
        yield f"only {what}", (index,), None
        if isinstance(change, Data) and len(change.content) > 1:
            yield f"all, {what} torn", every, index
            yield f"only {what}, torn", (index,), index
    for _ in range(sample if len(unsynced) > 2 else 0):
        likely = chance.random()
        kept = [index for index in every if chance.random() < likely]
        torn = chance.choice(kept) if kept and chance.random() < 0.3 else None
        yield f"only {[described(unsynced[index]) for index in kept]}", kept, torn


def described(change: Change) -> str:
    """A change in a few words."""
    match change:
        case Data(inode, offset, content):
            return f"{len(content)} bytes at {offset} of file {inode}"
        case Size(inode, size):
            return f"size {size} of file {inode}"
        case Names(changes):
            return ", ".join(
                f"name {name!r}{' gone' if inode is None else ''}" for _, name, inode in changes
            )
