"""Shared libraries that the MySQL server needs and a fresh system may lack.

With apt they are unpacked into the cache, and only the server sees them: nothing is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lake.errors import StackError
from stack.progress import Reporter


@dataclass(frozen=True, slots=True)
class Library:
    """A library by its file name, and the packages that carry it."""

    file: str
    debian: tuple[str, ...]
    fedora: str


KNOWN = (
    Library("libaio.so.1", ("libaio1t64", "libaio1"), "libaio"),
    Library("libnuma.so.1", ("libnuma1",), "numactl-libs"),
    Library("libcrypt.so.1", ("libcrypt1",), "libxcrypt-compat"),
)


def missing_libraries(program: Path, folder: Path) -> tuple[str, ...]:
    """File names that the dynamic loader does not find, looking into `folder` too.

    Raises:
        StackError: The program cannot be loaded on this system at all.
    """
    environment = {**os.environ, "LD_TRACE_LOADED_OBJECTS": "1", "LD_LIBRARY_PATH": str(folder)}
    try:
        trace = subprocess.run(
            [str(program)], env=environment, capture_output=True, text=True, timeout=30
        )
    except OSError as error:
        raise StackError(
            f"The MySQL server cannot run on this system ({error.strerror}).",
            "It needs Linux on x86-64 with glibc; or let `connections` name your own server.",
        ) from None
    lines = (line.split("=>") for line in trace.stdout.splitlines() if "not found" in line)
    return tuple(sorted({parts[0].strip() for parts in lines if len(parts) == 2}))


def library_folder(program: Path, cache: Path, reporter: Reporter) -> Path:
    """The folder for LD_LIBRARY_PATH with which the program loads; filled by apt if need be.

    Raises:
        StackError: A library is missing and cannot be fetched; names the packages.
    """
    folder = cache / "lib"
    missing = missing_libraries(program, folder)
    if not missing:
        return folder
    if shutil.which("apt-get") and shutil.which("dpkg-deb"):
        folder.mkdir(parents=True, exist_ok=True)
        for library in KNOWN:
            if library.file in missing:
                reporter.note(f"fetching {library.file} for MySQL with apt-get download")
                _fetch(library, folder)
        missing = missing_libraries(program, folder)
    if missing:
        raise StackError(f"MySQL needs {', '.join(missing)}.", _advice(missing))
    return folder


def _advice(missing: tuple[str, ...]) -> str:
    known = [library for library in KNOWN if library.file in missing]
    if not known:
        return "Install the packages that carry them, then run `ducklake up` again."
    debian = " ".join(library.debian[-1] for library in known)
    fedora = " ".join(library.fedora for library in known)
    return (
        f"Install them: `sudo apt-get install {debian}` (Debian, Ubuntu; libaio1t64 on newer ones)"
        f" or `sudo dnf install {fedora}` (Fedora)."
    )


def _fetch(library: Library, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="apt-") as name:
        work = Path(name)
        archive = _apt_download(library, work, [])
        if archive is None:
            # no package lists on this system: get them privately, which needs no root
            options = _private_lists(work)
            _apt([*options, "update"], work, seconds=180)
            archive = _apt_download(library, work, options)
        if archive is None:
            return
        unpacked = work / "unpacked"
        subprocess.run(["dpkg-deb", "-x", archive, unpacked], capture_output=True, timeout=60)
        for file in sorted(unpacked.rglob("lib*.so*")):
            if not file.is_symlink():
                shutil.copyfile(file, folder / file.name)
                # newer systems spell it libaio.so.1t64: same interface, another name
                if file.name.startswith(library.file) and file.name != library.file:
                    link = folder / library.file
                    link.unlink(missing_ok=True)
                    link.symlink_to(file.name)


def _private_lists(work: Path) -> list[str]:
    lists, cache = work / "lists", work / "cache"
    (lists / "partial").mkdir(parents=True)
    (cache / "archives" / "partial").mkdir(parents=True)
    user = "root" if os.geteuid() == 0 else ""
    settings = {"Dir::State::lists": lists, "Dir::Cache": cache, "APT::Sandbox::User": user}
    return [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]


def _apt_download(library: Library, work: Path, options: list[str]) -> Path | None:
    for package in library.debian:
        if _apt([*options, "-o", "APT::Sandbox::User=root", "download", package], work, 60):
            return next(work.glob(f"{package}_*.deb"), None)
    return None


def _apt(arguments: list[str], work: Path, seconds: float) -> bool:
    try:
        done = subprocess.run(
            ["apt-get", "-q", *arguments], cwd=work, capture_output=True, timeout=seconds
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
