"""A marker in the place of every secret: no command may print it, and no file may hold it."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CANARY = "CaNaRy"
CONFIG = """\
name: canary
services:
  kafka:
    bootstrap_servers: "127.0.0.1:9"
    options: {security.protocol: SASL_PLAINTEXT, sasl.mechanism: PLAIN, sasl.username: me,
      sasl.password: CaNaRy-kafka}
  connect: {url: "http://me:CaNaRy-connect@127.0.0.1:9/x"}
  postgres: {host: 127.0.0.1, port: 9, password: CaNaRy-postgres}
connections:
  db: {host: 127.0.0.1, port: 9, user: u, password: CaNaRy-mysql, database: d}
  files: {host: 127.0.0.1, port: 9, user: u, password: CaNaRy-sftp, known_hosts: known_hosts}
  api:
    base_url: "http://127.0.0.1:9/x"
    headers: {X-Api-Key: CaNaRy-header}
    auth: {type: bearer, token: CaNaRy-bearer}
alerts:
  to: ["https://hooks.example.invalid/CaNaRy-hook", "tgram://123456789:CaNaRyabcdefgh/12315544/"]
sources:
  shop:
    type: mysql_cdc
    connection: db
    options: {database.ssl.keystore.password: "$${env:NAME}"}
    tables: {orders: {key: [id]}}
  polled: {type: mysql_poll, connection: db, tables: {visits: {options: {watermark: at}}}}
  drops: {type: sftp, connection: files, tables: {s: {file: s.csv, key: [a]}}}
  rates:
    type: rest
    connection: api
    tables: {r: {key: [a], options: {url: /r, params: {api_key: "${CANARY_KEY}"}}}}
"""
COMMANDS = (
    ("config", "check"),
    ("status",),
    ("doctor", "--json"),
    ("connector", "status"),
    ("produce", "--once"),
    ("consume", "--once"),
    ("export", "--repair"),
    ("verify", "shop.orders", "--against-source"),
    ("backfill", "shop.orders"),
    ("report",),
    ("preview", "drops.s"),
    ("metrics",),
    ("trace", "shop.orders", "1"),
)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("canary")
    (folder / "ducklake.yml").write_text(CONFIG)
    (folder / "known_hosts").touch()
    return folder


def run(lake: Path, *words: str) -> str:
    command = [sys.executable, "-m", "ducklake.cli", *words]
    done = subprocess.run(
        [*command, "--config", str(lake / "ducklake.yml")],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=lake,
        env={**os.environ, "CANARY_KEY": "CaNaRy-parameter"},
    )
    said = done.stdout + done.stderr
    assert said and "Traceback" not in said
    return said


@pytest.mark.timeout(900)
def test_no_command_prints_a_secret_of_a_service_that_is_away_and_no_file_holds_one(
    lake: Path,
) -> None:
    run(lake, "verify", "--lake-only")  # makes the ledger
    with ThreadPoolExecutor(6) as together:  # each waits for services most of the time
        said = dict(
            zip(COMMANDS, together.map(lambda words: run(lake, *words), COMMANDS), strict=False)
        )
    assert not [words for words, text in said.items() if CANARY in text]
    files = [path for path in (lake / "data").rglob("*") if path.is_file()]
    assert files
    assert not [str(path) for path in files if CANARY.encode() in path.read_bytes()]


def test_a_configuration_that_is_wrong_is_told_without_its_secrets(tmp_path: Path) -> None:
    for wrong in (
        CONFIG.replace("password: CaNaRy-mysql", "passwort: CaNaRy-mysql"),
        CONFIG.replace(
            'url: "http://me:CaNaRy-connect@127', 'adress: "http://me:CaNaRy-connect@127'
        ),
        CONFIG.replace("connection: db", 'connection: "mysql://me:CaNaRy-url@host/db"'),
        CONFIG.replace("token: CaNaRy-bearer", "tokn: CaNaRy-bearer"),
        CONFIG.replace('base_url: "http://', 'base_url: "http://me:CaNaRy-url@'),
        CONFIG.replace('{api_key: "${CANARY_KEY}"}', "{api_key: CaNaRy-plain}"),
        CONFIG.replace('"$${env:NAME}"', '"${CANARY_KEY}"'),
        CONFIG.replace("port: 9, password: CaNaRy-postgres", "port: CaNaRy-port"),
    ):
        assert wrong != CONFIG
        (tmp_path / "ducklake.yml").write_text(wrong)
        said = run(tmp_path, "config", "check", "--offline")
        assert said.startswith("ducklake: "), said
        if "CaNaRy-port" not in wrong:
            assert CANARY not in said, said


def test_the_repository_holds_no_key_and_no_token() -> None:
    """What looks like a real secret in a tracked file; words such as hunter2 are no secrets."""
    signs = (
        "BEGIN OPENSSH PRIVATE" + " KEY",
        "BEGIN RSA PRIVATE" + " KEY",
        "AKIA" + "IOSF",
        "ghp" + "_",
    )
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    assert len(tracked) > 100
    for name in filter(None, tracked):
        path = ROOT / name
        content = path.read_bytes() if path.is_file() else b""
        found = [sign for sign in signs if sign.encode() in content]
        assert not found, name
