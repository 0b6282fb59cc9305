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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.crash.power_trace import MARK, Call, NotRecorded

ROOT = 0
IGNORED = "-shm"
SECTOR = 512
BARE = "nothing survives"


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes written into a file at an offset."""

    inode: int
    offset: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Size:
    """A file cut, or grown by zeros."""

    inode: int
    size: int


@dataclass(frozen=True, slots=True)
class Names:
    """Names that change together: (folder, name, inode or None)."""

    changes: tuple[tuple[int, str, int | None], ...]


Change = Data | Size | Names
Entries = dict[str, tuple[int, bytes | None]]
"""Path to (inode, content); the content of a folder is None."""


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


@dataclass
class _Open:
    inode: int
    at: int = 0
    appends: bool = False


@dataclass
class _Image:
    """Names and contents: what is durable, or what is seen, or what may be left."""

    names: dict[int, dict[str, int]] = field(default_factory=lambda: {ROOT: {}})
    contents: dict[int, bytes] = field(default_factory=dict)

    def copy(self) -> _Image:
        return _Image({i: dict(names) for i, names in self.names.items()}, dict(self.contents))

    def apply(self, change: Change, torn: int | None = None) -> None:
        match change:
            case Data(inode, offset, content):
                old = self.contents.get(inode, b"").ljust(offset, b"\0")
                new = content[:torn]
                self.contents[inode] = old[:offset] + new + old[offset + len(new) :]
            case Size(inode, size):
                self.contents[inode] = self.contents.get(inode, b"")[:size].ljust(size, b"\0")
            case Names(changes):
                for folder, name, inode in changes:
                    names = self.names.setdefault(folder, {})
                    if inode is None:
                        names.pop(name, None)
                    else:
                        names[name] = inode

    def entries(self, folders: set[int]) -> Entries:
        found: Entries = {}
        waiting = [(ROOT, "")]
        while waiting:
            folder, prefix = waiting.pop()
            for name, inode in self.names.get(folder, {}).items():
                if inode in folders:
                    found[prefix + name] = (inode, None)
                    waiting.append((inode, f"{prefix}{name}/"))
                elif not name.endswith(IGNORED):
                    found[prefix + name] = (inode, self.contents.get(inode, b""))
        return found


class Disk:
    """One folder's disk, to which recorded calls are given one after the other.

    Args:
        root: The folder; it is there, empty and durable.
    """

    def __init__(self, root: Path) -> None:
        self._root = bytes(root)
        self._seen = _Image()
        self._safe = _Image()
        self._unsynced: list[tuple[Change, set[int]]] = []
        self._open: dict[int, _Open] = {}
        self._folders = {ROOT}
        self._ignored: set[int] = set()
        self._last = ROOT

    # What is there ---------------------------------------------------------------------------

    def seen(self) -> Entries:
        """What a process sees: all changes, synced or not."""
        return self._seen.entries(self._folders)

    def settle(self) -> None:
        """Everything becomes durable."""
        self._unsynced.clear()
        self._safe = self._seen.copy()

    @property
    def unsynced(self) -> list[Change]:
        """Changes that a crash may undo, in their order."""
        return [change for change, _ in self._unsynced]

    def left(self, kept: Iterable[int], torn: int | None = None) -> Entries:
        """What a crash leaves if of the unsynced changes these survive, one of them torn."""
        image = self._safe.copy()
        for index in sorted(kept):
            change = self._unsynced[index][0]
            cut = None
            if index == torn and isinstance(change, Data):
                half = len(change.content) // 2
                cut = half - half % SECTOR or half
            image.apply(change, cut)
        return image.entries(self._folders)

    # Calls -----------------------------------------------------------------------------------

    def apply(self, call: Call) -> bool:
        """Do what a call did; returns whether that changed what a crash may leave."""
        before = len(self._unsynced)
        handler = getattr(self, f"_{call.name}", None)
        if handler is None:
            raise NotRecorded(f"{call.name} is not understood: {call.arguments}")
        handler(call)
        return len(self._unsynced) != before

    def _change(self, change: Change) -> None:
        if isinstance(change, Names):
            waits = {folder for folder, _, _ in change.changes}
        else:
            waits = {change.inode}
        self._seen.apply(change)
        if not waits & self._ignored:
            self._unsynced.append((change, waits))

    def _sync(self, inode: int) -> None:
        left = []
        for change, waits in self._unsynced:
            waits.discard(inode)
            if waits:
                left.append((change, waits))
            else:
                self._safe.apply(change)
        self._unsynced = left

    def _place(self, call: Call, at: int | None, index: int) -> tuple[int, str] | None:
        """(folder's inode, name) of a path among the arguments; None: outside."""
        path = call.text(index)
        if not path.startswith(b"/"):
            base = None if at is None else call.descriptor(at)
            if base is None:
                raise NotRecorded(f"{call.name}: a relative path: {path!r}")
            path = base[1] + b"/" + path
        if not path.startswith(self._root + b"/"):
            return None
        *parents, name = path[len(self._root) + 1 :].decode().rstrip("/").split("/")
        folder = ROOT
        for parent in parents:
            folder = self._seen.names[folder][parent]
        return folder, name

    def _file(self, call: Call, index: int = 0) -> _Open | None:
        """What a descriptor stands for; None: something outside."""
        found = call.descriptor(index)
        if found is None or found[0] is None:
            return None
        number, path = found
        if path != self._root and not path.startswith(self._root + b"/"):
            self._open.pop(number, None)
            return None
        if number not in self._open:
            raise NotRecorded(f"{call.name}: descriptor {number} of {path!r} was never opened")
        return self._open[number]

    def _openat(self, call: Call) -> None:
        flags = call.arguments[2]
        path = call.text(1)
        if path == self._root:
            self._open[call.result] = _Open(ROOT)
            return
        place = self._place(call, 0, 1)
        if place is None:
            self._open.pop(call.result, None)
            return
        folder, name = place
        inode = self._seen.names[folder].get(name)
        if inode is None:
            if "O_CREAT" not in flags:
                raise NotRecorded(f"{path!r} is opened and is not there")
            inode = self._new()
            if name.endswith(IGNORED):
                self._ignored.add(inode)
            self._change(Names(((folder, name, inode),)))
        elif "O_TRUNC" in flags and self._seen.contents.get(inode):
            self._change(Size(inode, 0))
        self._open[call.result] = _Open(inode, 0, "O_APPEND" in flags)

    def _new(self, folder: bool = False) -> int:
        self._last += 1
        if folder:
            self._folders.add(self._last)
            self._seen.names[self._last] = {}
        return self._last

    def _close(self, call: Call) -> None:
        found = call.descriptor(0)
        if found is not None and found[0] is not None:
            self._open.pop(found[0], None)

    def _dup(self, call: Call) -> None:
        source = self._file(call)
        if source is not None:
            self._open[call.result] = source

    _dup2 = _dup3 = _dup

    def _fcntl(self, call: Call) -> None:
        if call.arguments[1].startswith("F_DUPFD"):
            self._dup(call)

    def _lseek(self, call: Call) -> None:
        file = self._file(call)
        if file is not None:
            file.at = call.result

    def _write(self, call: Call) -> None:
        file = self._file(call)
        if file is None:
            return
        if file.appends:
            file.at = len(self._seen.contents.get(file.inode, b""))
        self._change(Data(file.inode, file.at, call.text(1)[: call.result]))
        file.at += call.result

    _writev = _write

    def _pwrite64(self, call: Call) -> None:
        file = self._file(call)
        if file is not None:
            self._change(Data(file.inode, call.number(3), call.text(1)[: call.result]))

    def _ftruncate(self, call: Call) -> None:
        file = self._file(call)
        if file is not None:
            self._change(Size(file.inode, call.number(1)))

    def _fsync(self, call: Call) -> None:
        file = self._file(call)
        if file is not None:
            self._sync(file.inode)

    _fdatasync = _fsync

    def _mmap(self, call: Call) -> None:
        found = call.descriptor(4)
        if found is None or "MAP_SHARED" not in call.arguments[3]:
            return
        if "PROT_WRITE" in call.arguments[2] and not found[1].endswith(IGNORED.encode()):
            raise NotRecorded(f"{found[1]!r} is written through memory")

    def _mkdir(self, call: Call) -> None:
        place = self._place(call, None, 0)
        if place is not None:
            self._change(Names(((*place, self._new(folder=True)),)))

    def _rename(self, call: Call) -> None:
        self._renamed(self._place(call, None, 0), self._place(call, None, 1), False)

    def _renameat(self, call: Call) -> None:
        exchange = len(call.arguments) > 4 and "RENAME_EXCHANGE" in call.arguments[4]
        self._renamed(self._place(call, 0, 1), self._place(call, 2, 3), exchange)

    _renameat2 = _renameat

    def _renamed(
        self, old: tuple[int, str] | None, new: tuple[int, str] | None, exchange: bool
    ) -> None:
        if old is None and new is None:
            return
        if old is None or new is None:
            raise NotRecorded("a rename into the lake or out of it")
        inode = self._seen.names[old[0]][old[1]]
        other = self._seen.names[new[0]].get(new[1]) if exchange else None
        added, removed = (*new, inode), (*old, other)
        if exchange or old[0] == new[0]:
            self._change(Names((removed, added)))
        else:
            self._change(Names((added,)))
            self._change(Names((removed,)))

    def _link(self, call: Call) -> None:
        self._linked(self._place(call, None, 0), self._place(call, None, 1))

    def _linkat(self, call: Call) -> None:
        self._linked(self._place(call, 0, 1), self._place(call, 2, 3))

    def _linked(self, old: tuple[int, str] | None, new: tuple[int, str] | None) -> None:
        if old is None and new is None:
            return
        if old is None or new is None:
            raise NotRecorded("a link into the lake or out of it")
        self._change(Names(((*new, self._seen.names[old[0]][old[1]]),)))

    def _unlink(self, call: Call) -> None:
        self._unlinked(self._place(call, None, 0))

    _rmdir = _unlink

    def _unlinkat(self, call: Call) -> None:
        self._unlinked(self._place(call, 0, 1))

    def _unlinked(self, place: tuple[int, str] | None) -> None:
        if place is not None:
            self._change(Names(((*place, None),)))


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


def combinations(unsynced: Sequence[Change], chance: random.Random, sample: int) -> Iterator[Choice]:
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
            return ", ".join(f"name {name!r}{' gone' if inode is None else ''}"
                             for _, name, inode in changes)  # fmt: skip
