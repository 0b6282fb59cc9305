"""docker/railway/start.sh on real services: seeds once, runs the roles, ends as Railway expects."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import requests
import yaml

from lake.config import Config
from tests.conftest import ROOT
from tests.integration.producers_lab import (
    committed,
    file_server,
    keys_of,
    shop_server,
    unique,
    wait_until,
)
from tests.ports import free_port

pytestmark = pytest.mark.stack
START = ROOT / "docker" / "railway" / "start.sh"
TOKEN = "0123456789abcdef0123"


def environment(folder: Path, stack: Config, source: str, port: int) -> dict[str, str]:
    """What Railway's variables would be, with the addresses of the running stack."""
    at, files, shop = stack.endpoints(), file_server(stack), shop_server(stack)
    settings = {
        "name": unique("r"),
        "services": {
            "kafka": {"options": at.kafka_options},
            "postgres": {"host": at.postgres.host, "port": at.postgres.port},
        },
        "connections": {"suppliers": keys_of(files)},
        "sources": {
            source: {
                "type": "sftp",
                "connection": "suppliers",
                "directory": "/upload",
                "tables": {"suppliers": {"file": "suppliers.json", "key": ["supplier_id"]}},
            }
        },
    }
    (folder / "docker").mkdir()
    (folder / "docker" / "sftp").symlink_to(ROOT / "docker" / "sftp")
    (folder / "ducklake.yml").write_text(yaml.safe_dump(settings))
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PORT": str(port),
        "DUCKLAKE_ROLES": "produce consume monitor dashboard",
        "DUCKLAKE_CONFIG": str(folder / "ducklake.yml"),
        "DUCKLAKE_DATA_DIR": str(folder / "lake"),
        "DUCKLAKE_DASHBOARD_TOKEN": TOKEN,
        "DUCKLAKE_METRICS__PORT": "off",
        "DUCKLAKE_SERVICES__KAFKA__BOOTSTRAP_SERVERS": at.kafka,
        "DUCKLAKE_SERVICES__CONNECT__URL": at.connect,  # with its login
        "DUCKLAKE_SERVICES__POSTGRES__HOST": at.postgres.host,
        "DUCKLAKE_SERVICES__POSTGRES__PORT": str(at.postgres.port),
        "DUCKLAKE_CONNECTIONS__SHOP_DB__HOST": shop.host,
        "DUCKLAKE_CONNECTIONS__SHOP_DB__PORT": str(shop.port),
        "DUCKLAKE_CONNECTIONS__SUPPLIERS__HOST": files.host,
        "DUCKLAKE_CONNECTIONS__SUPPLIERS__PORT": str(files.port),
        "DUCKLAKE_CONNECTIONS__SUPPLIERS__KNOWN_HOSTS": str(folder / "lake" / "known_hosts"),
    }


def started(variables: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen([str(START)], env=variables, stdout=output, stderr=output)


def is_healthy(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code == 200
    except requests.RequestException:
        return False


def code_of(process: subprocess.Popen[bytes], log: Path) -> int:
    try:
        return process.wait(60)
    except subprocess.TimeoutExpired:
        pytest.fail(log.read_text())


def test_it_seeds_once_runs_the_roles_and_ends_with_the_first_that_dies(
    tmp_path: Path, stack_config: Config
) -> None:
    source, port = unique("s"), free_port()
    variables = environment(tmp_path, stack_config, source, port)
    (tmp_path / "lake").mkdir(mode=0o700)
    log = tmp_path / "log"
    first = started(variables, log)
    try:
        wait_until(lambda: is_healthy(port), "the health check answers", 120)
        endpoints = stack_config.endpoints()
        wait_until(lambda: rows_of(endpoints, source), "the suppliers' rows are in Kafka", 120)
        said = log.read_text()
        assert "start.sh: seeded" in said and "the host key of" in said
        assert (tmp_path / "lake" / ".seeded").exists()
        assert (tmp_path / "lake" / "known_hosts").read_text()
        [consumer] = [p for p in psutil.Process(first.pid).children() if "consume" in p.cmdline()]
        consumer.kill()
        assert first.wait(60) == 128 + signal.SIGKILL
    finally:
        first.terminate()
        first.wait(60)
    said = log.read_text()
    assert "the role consume ended with exit code 137, and the container with it" in said
    assert "Traceback" not in said and TOKEN not in said
    login = urlsplit(stack_config.endpoints().connect)
    assert f"connect answers at {login.hostname}:{login.port}" in said
    assert login.password and login.password not in said
    second = started(variables, log)
    try:
        wait_until(lambda: is_healthy(port), "the health check answers again", 120)
        second.terminate()
        assert code_of(second, log) == 0
    finally:
        second.kill()
    said = log.read_text()
    assert "start.sh: stopped" in said and "seeded" not in said, said
    assert not [p for p in psutil.process_iter() if str(tmp_path) in str(_environment(p))]


def rows_of(endpoints: object, source: str) -> bool:
    try:
        return bool(committed(endpoints, f"{source}.suppliers"))  # type: ignore[arg-type]
    except KeyError:
        return False


def _environment(process: psutil.Process) -> str:
    try:
        return str(process.environ().get("DUCKLAKE_CONFIG"))
    except psutil.Error:
        return ""
