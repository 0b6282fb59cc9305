"""A disk that knows what of it is durable: recorded system calls replayed, in memory.

What is assumed stands in `power_loss.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.power_trace import Call, NotRecorded

ROOT = 0
IGNORED = "-shm"
SECTOR = 512
_OFFSET = re.compile(r"\[(\d+)\]")


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
                for folder, name, named in changes:
                    names = self.names.setdefault(folder, {})
                    if named is None:
                        names.pop(name, None)
                    else:
                        names[name] = named

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
        if found is None:
            return None
        number, path = found
        if number is None:
            return None
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

    def _sendfile(self, call: Call) -> None:
        target, source = self._file(call), self._file(call, 1)
        if target is None or not call.result:
            return
        at = _OFFSET.match(call.arguments[2])
        if source is None or at is None:
            raise NotRecorded(f"sendfile from outside, or without an offset: {call.arguments}")
        first = int(at[1])
        content = self._seen.contents[source.inode][first : first + call.result]
        self._change(Data(target.inode, target.at, bytes(content)))
        target.at += call.result

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
