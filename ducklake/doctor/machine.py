"""This machine: room, the modes of files, Java, the ledger."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil

from ducklake.doctor.findings import NOTE, Finding, well, wrong
from ducklake.supervision.freshness import can_be_read
from lake.config import Config
from lake.errors import DuckLakeError
from lake.installation import install_extra
from lake.ledger import LedgerReader
from lake.storage.paths import LakePaths
from lake.storage.privacy import data_folder_mode
from producers.registry import embedded_services
from stack import lifecycle
from stack.supervisor import SECRETS
from stack.tools import Tools

FREE_BYTES = 2 * 1024**3
JAVA = 17
_GROUP_AND_OTHERS = 0o077
_SECRET_FILES = ("work/dashboard.json", "alerts.json", f"stack/{SECRETS}")
_VERSION = re.compile(r'version "(\d+)')


def machine(config: Config) -> Iterator[Finding]:
    """Everything that is looked at on this machine."""
    yield from _disk(config.data_dir)
    yield from _secrets(config)
    yield from _folder(config.data_dir)
    yield from _ledger(config)
    if embedded_services(config):
        yield from _java()
        if not lifecycle.is_up(config):
            what = "the embedded stack is not running, so that its services cannot be asked"
            yield wrong("DL-106", "stack", what, "ducklake up")


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


def _disk(folder: Path) -> Iterator[Finding]:
    there = _existing(folder)
    free = psutil.disk_usage(str(there)).free
    said = f"{free / 1024**3:.1f} GB are free for {folder}"
    if free < FREE_BYTES:
        remedy = f"du -xh --max-depth=2 {shlex.quote(str(there))} | sort -h | tail"
        yield wrong("DL-101", "disk", f"only {said}", remedy)
    else:
        yield well("disk", said)
    if not os.access(there, os.W_OK | os.X_OK):
        quoted = shlex.quote(str(there))
        remedy = f'sudo chown -R "$(id -u)" {quoted} && chmod u+rwx {quoted}'
        yield wrong("DL-102", "data folder", f"{there} cannot be written by this user", remedy)


def _secrets(config: Config) -> Iterator[Finding]:
    paths = [config.data_dir / name for name in _SECRET_FILES]
    exposed = [path for path in paths if _mode(path) & _GROUP_AND_OTHERS]
    for path in exposed:
        what = f"{path} can be read by other users (mode {_mode(path):o})"
        yield wrong("DL-103", "secrets", what, f"chmod 600 {shlex.quote(str(path))}")
    if not exposed:
        yield well("secrets", "no file with secrets can be read by others")


def _folder(folder: Path) -> Iterator[Finding]:
    mode = _mode(folder)
    if not mode & _GROUP_AND_OTHERS:
        return
    closed = data_folder_mode(folder)
    if not mode & _GROUP_AND_OTHERS & ~closed:
        return
    what = f"other users of this machine can read {folder} (mode {mode:o})"
    remedy = f"chmod {closed:o} {shlex.quote(str(folder))}"
    if mode & 0o022:
        what = f"other users of this machine can change {folder} (mode {mode:o})"
        yield wrong("DL-104", "data folder", what, remedy)
    else:
        yield wrong("DL-104", "data folder", what, remedy, NOTE)


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode & 0o777
    except OSError:
        return 0


def _ledger(config: Config) -> Iterator[Finding]:
    paths = LakePaths(config.data_dir)
    if not paths.ledger.exists():
        yield well("ledger", "there is none yet")
        return
    try:
        if can_be_read(paths):
            with LedgerReader(paths) as ledger:
                yield well("ledger", f"commit {ledger.commits.last()}")
                return
    except DuckLakeError as error:
        yield wrong("DL-108", "ledger", error.what, error.remedy)
        return
    what = "it cannot be read, or an older release wrote it"
    yield wrong("DL-108", "ledger", what, "ducklake verify --lake-only")


def _java() -> Iterator[Finding]:
    remedy = install_extra("stack")
    try:
        java = Tools.locate().java
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30)
    except (DuckLakeError, ImportError, OSError, subprocess.TimeoutExpired) as error:
        yield wrong("DL-107", "java", f"it cannot be run ({type(error).__name__})", remedy)
        return
    found = _VERSION.search(done.stderr)
    if found is None or int(found[1]) < JAVA:
        said = found[1] if found else "unknown"
        yield wrong("DL-107", "java", f"version {said}, and {JAVA} is needed", remedy)
    else:
        yield well("java", f"version {found[1]}")
