"""What arrives in the demo while it runs, and where its APIs are."""

from __future__ import annotations

import csv
import threading
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

import pytest
from typer.testing import CliRunner

from ducklake.cli import demo
from ducklake.cli.app import app
from techstore import deliveries
from techstore.place import place_files
from techstore.public_apis import PUBLIC_APIS
from tests.unit.files_lab import files_lab
from tests.unit.sftp_server import Faults, sftp_server

ROOT = Path(__file__).parents[2]
TABLE = {
    "file": "inventory.csv",
    "key": ["sku", "warehouse"],
    "options": {"delimiter": ";", "encoding": "utf-8-sig"},
}


def test_new_versions_of_the_demo_s_inventory_keep_arriving(tmp_path: Path) -> None:
    place_files(ROOT / "docker/sftp", tmp_path / "drops", date(2026, 11, 23))
    with sftp_server(tmp_path / "drops", Faults()) as connection:
        source = {"type": "sftp", "connection": connection, "directory": "/"}
        lab = files_lab(tmp_path, {"inventory": TABLE}, source)
        lab.drain()
        first = lab.rows("inventory")
        found = deliveries.stock_drop(lab.config)
        assert found is not None
        for seed in (1, 2):
            lab.records.clear()
            day = date(2026, 11, 24)
            assert deliveries.deliver_stock(*found, Random(seed), day) == len(first)
            lab.drain()
            rows = lab.rows("inventory")
            assert [(r["sku"], r["warehouse"]) for r in rows] == [
                (r["sku"], r["warehouse"]) for r in first
            ]
            changed = [new for new, old in zip(rows, first, strict=True) if new != old]
            assert changed and all(row["counted_on"] == "24/11/2026" for row in changed)
            assert all(int(row["quantity"]) >= int(row["reserved"]) for row in changed)
            first = rows
    assert not [path for path in (tmp_path / "drops").iterdir() if path.name.endswith(".part")]


def test_a_delivery_waits_for_a_server_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place_files(ROOT / "docker/sftp", tmp_path / "drops", date(2026, 11, 23))
    path = tmp_path / "drops/inventory.csv"
    before, stop, tries = path.read_bytes(), threading.Event(), []
    faults = Faults()

    def fail() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise OSError(5, "Input/output error")

    faults.opening[b"inventory.csv"] = fail
    with sftp_server(tmp_path / "drops", faults) as connection:
        source = {"type": "sftp", "connection": connection, "directory": "/"}
        lab = files_lab(tmp_path, {"inventory": TABLE}, source)
        thread = threading.Thread(target=deliveries.deliver, args=(lab.config, 0.01, stop, 1))
        thread.start()
        while path.read_bytes() == before and thread.is_alive():
            stop.wait(0.01)
        stop.set()
        thread.join()
    rows = list(csv.reader(path.read_text("utf-8-sig").splitlines(), delimiter=";"))
    assert len(tries) >= 3 and len({len(row) for row in rows}) == 1


def test_live_apis_points_the_demo_at_the_public_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PUBLIC_APIS:  # so that they are gone afterwards
        monkeypatch.setenv(f"DUCKLAKE_CONNECTIONS__{name.upper()}__BASE_URL", "http://127.0.0.1:1")
    seen: list[Any] = []
    monkeypatch.setattr(demo, "demo_once", lambda config, stop, as_json: seen.append(config))
    monkeypatch.setattr(demo, "demo", lambda config, stop, rate: seen.append(config))
    for more in (["--once"], []):
        command = ["demo", "--live-apis", *more, "--config", str(ROOT / "ducklake.yml")]
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
    for config in seen:
        connections = config.settings.connections
        assert {n: connections[n]["base_url"] for n in PUBLIC_APIS} == PUBLIC_APIS
    assert len(seen) == 2
