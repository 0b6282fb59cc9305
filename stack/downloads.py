"""Pinned jars into a cache outside the clone: in parallel, resumed, checked, shared by clones."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import requests

from lake.certificates import UNTRUSTED
from lake.config import without_login
from lake.errors import StackError
from stack.jars import Jar
from stack.progress import Reporter

_PARALLEL = 8
_ATTEMPTS = 5
_CHUNK = 256 * 1024


def cache_dir() -> Path:
    """Where downloads are kept: DUCKLAKE_CACHE, else the user's cache folder."""
    if own := os.environ.get("DUCKLAKE_CACHE"):
        return Path(own).expanduser().absolute()
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home).expanduser().absolute() / "ducklake-stream"


def repository() -> str:
    """The Maven repository's address: DUCKLAKE_MAVEN_URL, else the public one."""
    if own := os.environ.get("DUCKLAKE_MAVEN_URL"):
        return own.rstrip("/")
    from jgo.constants import MAVEN_CENTRAL_URL

    return str(MAVEN_CENTRAL_URL).rstrip("/")


@contextmanager
def cache_lock(cache: Path, reporter: Reporter) -> Iterator[None]:
    """Let one process at a time fill the cache."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(cache / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StackError(
            f"The download cache {cache} cannot be written ({error.strerror}).",
            "Set DUCKLAKE_CACHE to a folder that can.",
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            reporter.note("waiting for another start that fills the download cache")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_cached(jar: Jar, folder: Path) -> bool:
    """Whether the very file is there."""
    path = folder / jar.name
    return path.is_file() and path.stat().st_size == jar.size and sha256_of(path) == jar.sha256


def fetch(jars: Sequence[Jar], folder: Path, reporter: Reporter) -> int:
    """Bring every jar that is missing into the folder; the caller holds the cache's lock.

    Returns:
        Bytes that had to be downloaded.

    Raises:
        StackError: A download failed for good, has another hash, or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(_PARALLEL) as pool:
        there = pool.map(lambda jar: is_cached(jar, folder), jars)
        missing = [jar for jar, cached in zip(jars, there, strict=True) if not cached]
    total = sum(jar.size for jar in missing)
    if not missing:
        return 0
    reporter.note(f"downloading {len(missing)} jars, {total / 1e6:.0f} MB, into {folder}")
    meter = _Meter()
    local = threading.local()

    def one(jar: Jar) -> None:
        if not hasattr(local, "session"):
            local.session = requests.Session()
        _download(local.session, jar, folder, meter)

    with ThreadPoolExecutor(_PARALLEL) as pool:
        # the large ones first, so that none is left alone at the end
        work = [pool.submit(one, jar) for jar in sorted(missing, key=lambda j: -j.size)]
        try:
            while not all(task.done() for task in work):
                if any(task.done() and task.exception() for task in work):
                    break
                reporter.downloading(min(meter.bytes, total - 1), total)
                meter.moved.wait(0.2)
                meter.moved.clear()
        finally:
            meter.stop.set()
            for task in work:
                task.cancel()
        for task in work:
            if not task.cancelled():
                task.result()
    reporter.downloading(total, total)
    return total


class _Meter:
    """Bytes that arrived, and the wish to stop."""

    def __init__(self) -> None:
        self.bytes = 0
        self.stop = threading.Event()
        self.moved = threading.Event()
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self.bytes += count
        self.moved.set()


def _download(session: requests.Session, jar: Jar, folder: Path, meter: _Meter) -> None:
    part = folder / f"{jar.name}.part"
    url = f"{repository()}/{jar.path}"
    reason, wrong = "", 0
    for attempt in range(_ATTEMPTS):
        if meter.stop.is_set() or (attempt and meter.stop.wait(0.25 * 2**attempt)):
            return
        try:
            _transfer(session, url, jar, part, meter)
        except requests.exceptions.SSLError:
            raise StackError(
                f"{jar.name} could not be downloaded from {without_login(url)}: the certificate"
                " of that server, or of a proxy before it, is not trusted.",
                UNTRUSTED,
            ) from None
        except requests.RequestException as error:
            reason = type(error).__name__
            if error.response is not None:
                reason = f"status {error.response.status_code}"
                if error.response.status_code in (401, 403, 404):
                    break
            continue
        except OSError as error:
            raise _disk_error(error, folder) from None
        if meter.stop.is_set():
            return
        if part.stat().st_size == jar.size and sha256_of(part) == jar.sha256:
            part.replace(folder / jar.name)
            return
        reason = "the file that came has another hash than connect/jars.lock"
        part.unlink()
        wrong += 1
        if wrong == 2:  # once may be a damaged transfer
            break
    raise StackError(
        f"{jar.name} could not be downloaded from {without_login(url)} ({reason}).",
        "Check the network, or set DUCKLAKE_MAVEN_URL to a mirror that has it.",
    )


def _transfer(session: requests.Session, url: str, jar: Jar, part: Path, meter: _Meter) -> None:
    have = part.stat().st_size if part.exists() else 0
    if have >= jar.size:
        part.unlink()
        have = 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with session.get(url, headers=headers, stream=True, timeout=(10, 30)) as answer:
        answer.raise_for_status()
        resumed = answer.status_code == requests.codes.partial_content
        with part.open("ab" if resumed else "wb") as file:
            if resumed:
                meter.add(have)
            for chunk in answer.iter_content(_CHUNK):
                if meter.stop.is_set():
                    return
                file.write(chunk)
                meter.add(len(chunk))


def _disk_error(error: OSError, folder: Path) -> StackError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StackError(
            f"The disk that holds {folder} is full.",
            "Free some space, or set DUCKLAKE_CACHE to a folder on another disk.",
        )
    return StackError(
        f"{folder} cannot be written ({error.strerror}).",
        "Set DUCKLAKE_CACHE to a folder that can.",
    )
