"""The ledger's file is never replaced under somebody who has it open."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import lake.ledger.replacing as replacing
from consumers.maintenance.ledger_rebuild import restore_ledger
from lake.errors import LedgerError, ServiceUnreachable
from lake.ledger import Ledger
from lake.storage.paths import LakePaths


@pytest.fixture
def paths(tmp_path: Path) -> LakePaths:
    lake = LakePaths(tmp_path)
    Ledger(lake).close()
    return lake


def test_a_ledger_that_somebody_has_open_is_not_replaced(
    paths: LakePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replacing, "REST_SECONDS", 0.1)
    before = paths.ledger.stat().st_ino
    with Ledger(paths), pytest.raises(LedgerError, match="has the lake open"):
        restore_ledger(paths, {})
    assert paths.ledger.stat().st_ino == before
    restore_ledger(paths, {})
    assert paths.ledger.stat().st_ino != before


def test_a_ledger_is_not_opened_while_it_is_replaced(paths: LakePaths) -> None:
    with (
        replacing.at_rest(paths),
        pytest.raises(ServiceUnreachable, match="is being replaced"),
        Ledger(paths),
    ):
        pass
    Ledger(paths).close()


def test_who_only_looks_at_the_ledger_is_waited_for(paths: LakePaths) -> None:
    ledger = Ledger(paths)
    done = threading.Event()

    def look() -> None:
        done.wait(0.2)
        done.set()
        ledger.close()

    thread = threading.Thread(target=look)
    thread.start()
    with replacing.at_rest(paths):
        assert done.is_set()
    thread.join()
