"""docs/DOCTOR.md lists every code of `ducklake doctor`, and every code is one that it can give."""

from __future__ import annotations

import re
from pathlib import Path

from ducklake.doctor.findings import CODES

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| `(DL-\d{3})` \| ([^|]+) \| [^|]+ \|$", re.MULTILINE)
USED = re.compile(r"\"(DL-\d{3})\"")


def test_the_page_lists_every_code() -> None:
    assert ROW.findall((ROOT / "docs" / "DOCTOR.md").read_text()) == [*CODES.items()]


def test_every_code_is_given_somewhere() -> None:
    files = [*(ROOT / "ducklake" / "doctor").glob("*.py")]
    files = [f for f in files if f.name != "findings.py"]
    files.append(ROOT / "producers" / "mysql" / "server_checks.py")
    assert {code for file in files for code in USED.findall(file.read_text())} == CODES.keys()
