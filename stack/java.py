"""What Kafka and Connect share: the virtual machine's options and its files of settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lake.storage.operations import write_atomically
from stack.jars import PROJECT
from stack.tools import Tools

LOGGING = PROJECT / "connect" / "log4j2.properties"

# the serial collector and one compiler tier start in a third of the time on two cores
ONE_TIER = "-XX:TieredStopAtLevel=1"
_OPTIONS = (
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "-Xshare:auto",
    "-Djava.awt.headless=true",
    # JDBC reads a DATETIME in the zone of the process, and an hour that a zone skips is none there
    "-Duser.timezone=UTC",
)
NONE: Mapping[str, str] = {}
CONNECT = "org.apache.kafka.connect.cli.ConnectDistributed"
MEMORY = ("-Xms256m", "-Xmx768m")


def java(
    tools: Tools, temporary: Path, main: str, *arguments: str, properties: Mapping[str, str] = NONE
) -> list[str]:
    """The command that runs a main class.

    Args:
        tools: Where Java is.
        temporary: For native libraries that jars unpack; the system's may forbid programs.
        main: The class.
        arguments: Its arguments.
        properties: More system properties of the virtual machine.
    """
    tier = () if main == CONNECT else (ONE_TIER,)  # Connect computes for as long as it runs
    settings = (f"-Djava.io.tmpdir={temporary}", f"-Dlog4j2.configurationFile={LOGGING.as_uri()}")
    more = (f"-D{key}={value}" for key, value in properties.items())
    return [str(tools.java), *_OPTIONS, *tier, *MEMORY, *settings, *more, main, *arguments]


def write_properties(path: Path, settings: Mapping[str, str | int | bool]) -> None:
    """Write a `.properties` file, private since it may carry a password."""
    lines = []
    for key, value in settings.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        lines.append(f"{key}={escape(text)}")
    write_atomically(path, "\n".join(lines) + "\n")


def escape(value: str) -> str:
    r"""A value as Java's properties reader gives it back: `\` doubled, the rest in `\uXXXX`."""
    said = []
    for character in value.replace("\\", "\\\\").replace("\n", "\\n"):
        if character.isascii():
            said.append(character)
        else:
            units = character.encode("utf-16-be")
            said += [f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2)]
    text = "".join(said)
    return f"\\{text}" if text.startswith(" ") else text
