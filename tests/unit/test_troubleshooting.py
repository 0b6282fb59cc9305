"""docs/TROUBLESHOOTING.md has every message that names a remedy, and tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

from producers.mysql.notice_texts import TEXTS
from tests.unit.messages import ROOT, VARIES, Message, messages

PAGE = ROOT / "docs" / "TROUBLESHOOTING.md"
ROW = re.compile(r"^\| (.+?) \| (.+?) \| (.+?) \| (?:`([^`]+)`|-) \|$", re.MULTILINE)
PLACES = (
    "producers/mysql",
    "producers/sftp",
    "producers/cursors.py",
    "producers/transactions.py",
    "lake/kafka",
    "batcher/postgres",
    "ducklake/reconciliation",
)
BY_ITSELF = re.compile(r"It is retried\.|Is \w+ up\?|Is it up\?( `ducklake status` shows .*)?")
"""Remedies that need no page."""


def notice(what: str, remedy: str) -> Message:
    """What a notice of the connector says, as an error reads."""
    return Message(*(re.sub(r"\{\w+\}", VARIES, text) for text in (what, remedy)))


def known() -> set[Message]:
    """All messages of the code that name a remedy."""
    raised = {found for found in messages(*PLACES) if not BY_ITSELF.fullmatch(found.remedy)}
    return raised | {notice(*text) for text in TEXTS.values()}


def _rows() -> dict[Message, str]:
    rows = ROW.findall(PAGE.read_text())
    return {
        Message(what.replace("\\|", "|"), remedy.replace("\\|", "|")): test
        for what, _, remedy, test in rows
    }


def test_the_page_has_every_message_that_names_a_remedy() -> None:
    assert _rows().keys() == known()


def test_the_tests_of_the_page_are_there() -> None:
    tests = Path(ROOT / "tests")
    for test in filter(None, _rows().values()):
        file, _, name = test.partition("::")
        assert f"def {name}(" in (tests / file).read_text(), test


def test_a_test_runs_every_remedy() -> None:
    assert all(_rows().values())
