"""System calls of a process as `strace` writes them down, read back call by call.

Everything that could change a file is recorded. What is recorded and not understood is an error,
so that a new way of writing cannot slip past the power-loss test.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

CALLS = (
    "openat,open,creat,write,pwrite64,writev,pwritev,pwritev2,lseek,ftruncate,truncate,fallocate,"
    "fsync,fdatasync,sync,syncfs,sync_file_range,rename,renameat,renameat2,unlink,unlinkat,mkdir,"
    "mkdirat,rmdir,link,linkat,symlink,symlinkat,close,dup,dup2,dup3,fcntl,mmap,copy_file_range,"
    "sendfile,splice"
)
MARK = b"@@"
"""What a recorded process writes to its standard output to say where it is."""
_CALL = re.compile(r"(\d+) +(?:(\w+)\((.*)\)|(\+\+\+|---).*) += (-?\w+|\?).*", re.DOTALL)
_RESUMED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)", re.DOTALL)
_UNFINISHED = " <unfinished ...>"
_DESCRIPTOR = re.compile(r"(\d+|AT_FDCWD)<([^>]*)>.*")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


class NotRecorded(Exception):
    """The trace holds something that this module does not understand."""


@dataclass(frozen=True, slots=True)
class Call:
    """A system call that succeeded: its name, its arguments as written, what it returned."""

    name: str
    arguments: tuple[str, ...]
    result: int

    def text(self, index: int) -> bytes:
        """An argument that is a string or a buffer; of writev all its buffers together."""
        found = _TEXT.findall(self.arguments[index])
        if not found or "..." in self.arguments[index].replace(_UNFINISHED, ""):
            raise NotRecorded(f"{self.name}: cut off: {self.arguments[index][:80]}")
        return b"".join(_decoded(text) for text in found)

    def descriptor(self, index: int) -> tuple[int | None, bytes] | None:
        """A file descriptor and the path that it has; None: it has none, or it is no descriptor.

        The number is None for the current folder.
        """
        match = _DESCRIPTOR.fullmatch(self.arguments[index])
        if match is None:
            return None
        number = None if match[1] == "AT_FDCWD" else int(match[1])
        return number, _decoded(match[2])

    def number(self, index: int) -> int:
        """An argument that is a number."""
        return int(self.arguments[index])


def _decoded(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _encoded(text: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text)


def strace_is_missing() -> str:
    """Why nothing can be recorded on this machine; empty where it can."""
    if shutil.which("strace") is None:
        return "strace is not installed (Debian: apt-get install strace)"
    tried = subprocess.run(
        ["strace", "-f", "-o", "/dev/null", "true"], capture_output=True, text=True
    )
    return "" if tried.returncode == 0 else f"strace may not trace here: {tried.stderr.strip()}"


def record(command: Sequence[str], trace: Path, cwd: Path) -> None:
    """Run a command and write its calls down.

    Raises:
        NotRecorded: It failed.
    """
    done = subprocess.run(
        [
            "strace",
            "-f",
            "-y",
            "-xx",
            "-s",
            "10000000",
            "--seccomp-bpf",
            "-o",
            str(trace),
            "-e",
            f"trace={CALLS}",
            "-e",
            "signal=none",
            *command,
        ],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise NotRecorded(f"{command} ended with {done.returncode}: {done.stderr[-3000:]}")


def calls(trace: Path, folder: Path) -> Iterator[Call]:
    """The calls that name a folder or what is in it, and the marks; in the order of their ends."""
    root = _encoded(bytes(folder))
    wanted = (root + _encoded(b"/"), f'{root}"', f"{root}>", f'"{_encoded(MARK)}')
    with trace.open() as lines:
        for line in _whole(lines):
            if any(text in line for text in wanted):
                call = _parsed(line)
                if call is not None:
                    yield call


def _whole(lines: Iterable[str]) -> Iterator[str]:
    """Put calls together that another thread interrupted in the trace."""
    begun: dict[str, str] = {}
    for raw in lines:
        line = raw.rstrip("\n")
        if line.endswith(_UNFINISHED):
            begun[line.split(" ", 1)[0]] = line.removesuffix(_UNFINISHED)
        elif match := _RESUMED.fullmatch(line):
            yield begun.pop(match[1]) + match[2]
        else:
            yield line


def _parsed(line: str) -> Call | None:
    match = _CALL.fullmatch(line)
    if match is None or match[2] is None:
        raise NotRecorded(f"not a call: {line[:200]}")
    if match[5] in ("-1", "?"):
        return None  # it failed, or the process was killed in it
    return Call(match[2], tuple(match[3].split(", ")), int(match[5], 0))
