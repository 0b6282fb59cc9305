"""The images that docker-compose.yml names: pulled, or replaced where they cannot be.

A stand-in bears the official name and tag, is built from a fresh Debian and holds the real
programs: the same Kafka, Connect and Debezium jars, MySQL, PostgreSQL, OpenSSH.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import yaml

from stack.downloads import cache_dir
from stack.jars import read_lock
from stack.progress import PlainLines
from stack.tools import Tools, provide
from tests.compose.engine import Engine, NoEngine

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
DEBIAN = "ducklake-standin-debian"
# a stage of standins/Dockerfile for each image, by the name without its tag
STAGES: Mapping[str, str] = {
    "python": "python",
    "apache/kafka": "kafka",
    "quay.io/debezium/connect": "connect",
    "mysql": "mysql",
    "postgres": "postgres",
    "atmoz/sftp": "sftp",
}
PULL_SECONDS = 600
BUILD_SECONDS = 600
# everything that any of them needs, so that no stage has to ask for packages once more
_PACKAGES = (
    "ca-certificates",
    "curl",
    "libaio1",
    "libnuma1",
    "mariadb-client",
    "openssh-server",
    "python3",
    "python3-venv",
    "tzdata",
)
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def named_images() -> list[str]:
    """All images of the services without a profile, and the one that ours is built from."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"].values()
    named = {service["image"] for service in services if "profiles" not in service}
    found = {name for name in named if "$" not in name}  # all but ours
    base = re.search(r"^ARG PYTHON=(\S+)$", (ROOT / "docker/Dockerfile").read_text(), re.M)
    assert base is not None
    return [base[1], *sorted(found)]


def provide_images(engine: Engine) -> list[str]:
    """Pull what can be pulled; the names of those that had to be replaced.

    Raises:
        NoEngine: Neither is possible.
    """
    missing = [name for name in named_images() if not _there(engine, name)]
    while missing and _pulled(engine, missing[0]):
        missing.pop(0)  # where one cannot be pulled, the others cannot either
    if missing:
        if shutil.which("mmdebstrap") is None:
            raise NoEngine(f"{missing[0]} cannot be pulled, nor replaced without mmdebstrap")
        _build(engine, missing)
    return missing


def _pulled(engine: Engine, name: str) -> bool:
    words = ["docker", "pull", "--quiet", name]
    try:
        return engine.run(words, check=False, timeout=PULL_SECONDS).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _there(engine: Engine, name: str) -> bool:
    return bool(engine.docker("images", "--quiet", name))


def _build(engine: Engine, names: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="ducklake-standins-") as folder:
        work = Path(folder)
        if not _there(engine, DEBIAN):
            _import_debian(engine, work)
        context = work / "context"
        _gather(context)
        for name in names:
            stage = STAGES[name.partition(":")[0]]
            engine.docker("build", "--quiet", "--target", stage, "--tag", name, str(context))


def _import_debian(engine: Engine, work: Path) -> None:
    about = f"{HERE.joinpath('standins/debian.sh').read_text()}{_PACKAGES}"
    version = hashlib.sha256(about.encode()).hexdigest()[:12]
    archive = cache_dir() / f"standin-debian-{version}.tar"
    if not archive.exists():
        part = work / "debian.tar"
        hooks = [f"--customize-hook={HERE}/standins/debian.sh $1"]
        if _CERTIFICATES.exists():
            # those that this machine trusts, for pip in the containers
            hooks.append(f"--customize-hook=cp {_CERTIFICATES} $1{_CERTIFICATES}")
        subprocess.run(
            [
                "mmdebstrap",
                "--quiet",
                "--variant=minbase",
                f"--include={','.join(_PACKAGES)}",
                *hooks,
                "bookworm",
                part,
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=BUILD_SECONDS,
        )
        for old in cache_dir().glob("standin-debian*.tar"):
            old.unlink()
        shutil.move(part, archive.with_suffix(f".{os.getpid()}"))
        archive.with_suffix(f".{os.getpid()}").replace(archive)
    engine.docker("import", str(archive), DEBIAN)


def _gather(context: Path) -> None:
    """What the stand-ins hold, from the same places as the embedded stack."""
    provide(PlainLines())
    tools = Tools.locate()
    context.mkdir()
    shutil.copy(HERE / "standins/Dockerfile", context)
    shutil.copytree(HERE / "standins", context / "standins")
    shutil.copy(ROOT / "connect/log4j2.properties", context)
    shutil.copytree(tools.java.parents[1], context / "java", symlinks=True)
    shutil.copytree(tools.postgres_bin.parent, context / "postgres", symlinks=True)
    libraries = f"{tools.postgres_bin.parents[1].name}.libs"
    shutil.copytree(tools.postgres_bin.parents[2] / libraries, context / libraries)
    shutil.copytree(tools.mysql_home, context / "mysql", symlinks=True)
    (context / "jars").mkdir()
    for jar in read_lock():
        if jar.on_classpath:
            shutil.copy(cache_dir() / "jars" / jar.name, context / "jars")
