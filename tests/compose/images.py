"""The images that docker-compose.yml names: pulled, or replaced where they cannot be.

A stand-in bears the official name and tag, is built from a fresh Debian and holds the real
programs: the same Kafka, Connect and Debezium jars, MySQL, PostgreSQL, OpenSSH.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import yaml

from ducklake.local.downloads import cache_dir
from ducklake.local.jars import read_lock
from ducklake.local.progress import PlainLines
from ducklake.local.tools import Tools, provide
from tests.compose.engine import Engine

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
OURS = "ducklake-stream:local"
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
PULL_SECONDS = 300
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def named_images() -> list[str]:
    """All images of the services without a profile, and the one that ours is built from."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"].values()
    found = {service["image"] for service in services if "profiles" not in service} - {OURS}
    base = re.search(r"^ARG PYTHON=(\S+)$", (ROOT / "docker/Dockerfile").read_text(), re.M)
    assert base is not None
    return [base[1], *sorted(found)]


def provide_images(engine: Engine) -> list[str]:
    """Pull what can be pulled; the names of those that had to be replaced."""
    missing = [name for name in named_images() if not _there(engine, name)]
    while missing:
        pulled = engine.run(
            ["docker", "pull", "--quiet", missing[0]], check=False, timeout=PULL_SECONDS
        )
        if pulled.returncode:
            break  # where one cannot be pulled, the others cannot either
        missing.pop(0)
    if missing:
        _build(engine, missing)
    return missing


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
    archive = cache_dir() / "standin-debian.tar"
    if not archive.exists():
        tree = work / "debian"
        subprocess.run(
            ["debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", tree],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        if _CERTIFICATES.exists():
            # those that this machine trusts, for pip in the containers
            shutil.copy(_CERTIFICATES, tree / "etc/ssl/certs/ca-certificates.crt")
            (tree / "etc/pip.conf").write_text(f"[global]\ncert = {_CERTIFICATES}\n")
        part = archive.with_suffix(f".{os.getpid()}")
        subprocess.run(["tar", "-C", str(tree), "-cf", str(part), "."], check=True)
        part.replace(archive)
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
