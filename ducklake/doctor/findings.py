"""What an examination finds: a stable code, what is wrong, and the line that repairs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["ok", "note", "error"]
OK: Level = "ok"
NOTE: Level = "note"
ERROR: Level = "error"

CODES: Mapping[str, str] = {
    "DL-101": "The disk of the lake is nearly full",
    "DL-102": "The data folder cannot be written",
    "DL-103": "A file with secrets can be read by others",
    "DL-104": "The data folder is open to other users of the machine",
    "DL-105": "The clock differs from that of a service",
    "DL-106": "The embedded stack is not running",
    "DL-107": "There is no Java that can run the embedded services",
    "DL-108": "The ledger cannot be read",
    "DL-201": "Kafka does not answer",
    "DL-202": "The topic of a table does not exist",
    "DL-203": "Kafka has deleted records that the lake has not read",
    "DL-204": "A topic has other settings than the lake needs",
    "DL-205": "A topic cannot be written: min.insync.replicas",
    "DL-206": "Kafka deletes records soon that the lake has not read",
    "DL-207": "Kafka refuses the login",
    "DL-208": "Kafka and this side do not agree on TLS",
    "DL-301": "Kafka Connect does not answer",
    "DL-302": "Kafka Connect does not write exactly once",
    "DL-303": "Kafka Connect lacks the project's connector",
    "DL-304": "A connector has failed or is paused",
    "DL-305": "Kafka Connect refuses the login",
    "DL-401": "A MySQL server does not answer",
    "DL-402": "A MySQL server refuses the user",
    "DL-403": "The binlog has statements instead of rows",
    "DL-404": "The binlog has rows that lack columns",
    "DL-405": "The binlog has parts of JSON values",
    "DL-406": "The server numbers no transactions (GTID)",
    "DL-407": "The user lacks a privilege",
    "DL-408": "A table or database is not there",
    "DL-409": "The server writes no binlog",
    "DL-410": "Two readers of the binlog have one server id",
    "DL-411": "A table has no primary key",
    "DL-412": "A setting of a source does not fit its server",
    "DL-413": "The binlog is kept for too short a time",
    "DL-414": "The binlog no longer has what has not been read",
    "DL-415": "A MySQL server and this side do not agree on TLS",
    "DL-501": "PostgreSQL does not answer",
    "DL-502": "PostgreSQL refuses the user",
    "DL-503": "PostgreSQL is too old",
    "DL-504": "The user may not create schemas in the database",
    "DL-505": "The database is read-only",
    "DL-506": "PostgreSQL and this side do not agree on TLS",
    "DL-601": "A server of files does not answer",
    "DL-602": "The host key of a server of files is unknown, or another one",
    "DL-603": "A server of files refuses the user",
    "DL-604": "A private key can be read by others",
    "DL-605": "The folder of a source of files is not there",
    "DL-606": "A private key cannot be used",
    "DL-701": "An API does not answer",
    "DL-801": "A source does not answer, or refuses",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        code: One of `CODES`; empty where nothing is wrong.
        subject: What: `kafka`, `source mysql`.
        level: `ok`, `note` (it works, and should be known) or `error`.
        what: What is wrong; of what is well, its version or its figures.
        remedy: The line that repairs it.
    """

    code: str
    subject: str
    level: Level
    what: str
    remedy: str = ""

    def line(self) -> str:
        """One line for people."""
        mark = {OK: "ok   ", NOTE: "note ", ERROR: "ERROR"}[self.level]
        code = f"{self.code} " if self.code else ""
        remedy = f"\n        → {self.remedy}" if self.remedy else ""
        return f"{mark} {code}{self.subject}: {self.what}{remedy}"

    def dump(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def well(subject: str, what: str) -> Finding:
    """Something that is as it should be."""
    return Finding("", subject, OK, what)


def wrong(code: str, subject: str, what: str, remedy: str, level: Level = ERROR) -> Finding:
    """Something that is not."""
    assert code in CODES, code
    return Finding(code, subject, level, what, remedy)
