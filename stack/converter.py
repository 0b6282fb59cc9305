"""The converter that makes Debezium's values of MySQL exact: compiled here, out of its source.

`connect/converter/` holds it as Java. The Eclipse compiler is a jar like the others and runs on the
Java that runs Connect; what it makes is kept in the cache under a hash of all that goes into it.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import zipfile
from pathlib import Path

from lake.errors import StackError
from stack.jars import COMPILER, PROJECT, Jar

SOURCE = PROJECT / "connect" / "converter"
CONNECTOR = "ducklake.MysqlConnector"
REST_POLICY = "ducklake.RestPolicy"
_RELEASE = "17"  # the oldest Java on which Debezium 3 runs
_USED = (
    "antlr4-runtime",
    "connect-api",
    "connect-json",
    "debezium-api",
    "debezium-config",
    "debezium-connector-binlog",
    "debezium-connector-common",
    "debezium-connector-mysql",
    "debezium-ddl-parser",
    "debezium-util",
    "jackson-annotations",
    "jackson-core",
    "jackson-databind",
    "jakarta.ws.rs-api",
    "kafka-clients",
    "mysql-binlog-connector-java",
    "slf4j-api",
)
# By these Connect finds connector and converter without a look at every class.
_SERVICES = (
    ("META-INF/services/org.apache.kafka.connect.source.SourceConnector", CONNECTOR),
    ("META-INF/services/org.apache.kafka.connect.storage.Converter", "ducklake.BoundedJson"),
    ("META-INF/services/org.apache.kafka.connect.rest.ConnectRestExtension", REST_POLICY),
)
_COMPILE_SECONDS = 120
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)


def converter_needs(jars: tuple[Jar, ...]) -> tuple[Jar, ...]:
    """The jars with which the converter is compiled."""
    return tuple(jar for jar in jars if jar.artifact in (COMPILER, *_USED))


def converter_jar(jars: tuple[Jar, ...], cache: Path) -> Path:
    """Where the compiled converter is kept; another source or compiler, another name."""
    digest = hashlib.sha256(repr((_RELEASE, _SERVICES)).encode())
    for source in _sources():
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    for jar in converter_needs(jars):
        digest.update(jar.line().encode())
    return cache / "converter" / f"ducklake-mysql-values-{digest.hexdigest()[:16]}.jar"


def provide_converter(java: Path, jars: tuple[Jar, ...], cache: Path) -> Path:
    """Compile the converter if that was not done before; the caller holds the cache's lock.

    Args:
        java: The program.
        jars: All pinned jars, which are in the cache already.
        cache: The cache.

    Raises:
        StackError: It cannot be compiled.
    """
    target = converter_jar(jars, cache)
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="compile-") as name:
            classes = Path(name) / "classes"
            _compile(java, jars, cache / "jars", classes)
            _pack(classes, Path(name) / target.name)
            (Path(name) / target.name).replace(target)
    return target


def _sources() -> list[Path]:
    found = sorted(SOURCE.rglob("*.java"))
    if not found:
        raise StackError(
            f"{SOURCE} holds no Java source.", "Run from a complete clone of the project."
        )
    return found


def _compile(java: Path, jars: tuple[Jar, ...], folder: Path, classes: Path) -> None:
    [compiler] = [folder / jar.name for jar in jars if jar.artifact == COMPILER]
    used = os.pathsep.join(str(folder / jar.name) for jar in jars if jar.artifact in _USED)
    words = [str(java), "-XX:TieredStopAtLevel=1", "-jar", str(compiler)]
    words += ["-source", _RELEASE, "-target", _RELEASE, "-encoding", "UTF-8"]
    words += ["-proc:none", "-nowarn", "-cp", used, "-d", str(classes), *map(str, _sources())]
    done = subprocess.run(words, capture_output=True, text=True, timeout=_COMPILE_SECONDS)
    if done.returncode != 0:
        raise StackError(
            f"The converter in {SOURCE} does not compile: {done.stderr.strip()[:500]}",
            "Restore connect/converter from the repository.",
        )


def _pack(classes: Path, jar: Path) -> None:
    """Make a jar of the same bytes whenever it is made."""
    with zipfile.ZipFile(jar, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(classes.rglob("*.class")):
            entry = zipfile.ZipInfo(file.relative_to(classes).as_posix(), _TIMESTAMP)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, file.read_bytes())
        for name, implementation in _SERVICES:
            archive.writestr(zipfile.ZipInfo(name, _TIMESTAMP), implementation + "\n")
