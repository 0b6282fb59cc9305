"""docker-compose.yml, the image and their pages agree, and promise what docs/COMPOSE.md says."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ducklake import containers, health
from lake.config import MysqlConnection, SftpConnection, load_config
from lake.errors import ConfigError
from producers.registry import embedded_services, source_connection

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name for name, spec in SERVICES.items() if "ducklake-stream:local" in spec["image"]}
PIN = re.compile(r"^([a-z0-9-]+)(?:\[[^]]*\])?==(\S+)", re.MULTILINE)


def test_every_role_and_service_is_there() -> None:
    services = ["connect", "kafka", "kafka-ui", "mysql", "postgres", "sftp"]
    assert sorted(set(SERVICES) - OURS) == services
    roles = "api batch compactor consumer dashboard init live monitor producers simulator"
    assert sorted(OURS) == roles.split()
    assert {name for name, spec in SERVICES.items() if "profiles" in spec} == {"kafka-ui"}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_is_bounded_and_listens_on_loopback_alone(name: str) -> None:
    spec = SERVICES[name]
    assert spec["mem_limit"]
    for port in spec.get("ports", ()):
        assert re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z_]+:-\d+\}:\d+", port), port
    if name in OURS:
        assert spec["read_only"] and spec["cap_drop"] == ["ALL"]
    else:
        assert spec["healthcheck"]["test"][0] == "CMD"


def test_whoever_is_waited_for_is_waited_for_until_it_is_ready() -> None:
    for spec in SERVICES.values():
        for other, condition in spec.get("depends_on", {}).items():
            ended = other == "init"
            wanted = "service_completed_successfully" if ended else "service_healthy"
            assert condition == {"condition": wanted}


def test_no_password_stands_in_a_file_of_the_project() -> None:
    names = {f"{name.upper()}_PASSWORD" for name in containers.NAMES}
    environment = SERVICES["init"]["environment"]
    assert environment == {name: f"${{{name}:-}}" for name in names}
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert set(re.findall(r"^(\w+_PASSWORD)=$", example, re.MULTILINE)) == names
    for name, spec in SERVICES.items():
        for key, value in (spec.get("environment") or {}).items():
            if "PASSWORD" in key and name != "init":
                assert "/run/ducklake" in value


def test_every_variable_of_the_file_is_in_the_example() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    used = dict(re.findall(r"(?<!\$)\$\{([A-Z_]+):-([^}]*)\}", text))
    assert dict(re.findall(r"^([A-Z_]+)=(.*)$", example, re.MULTILINE)) == used


def test_only_addresses_differ_in_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in SERVICES["producers"]["environment"].items():
        monkeypatch.setenv(key, value.replace("$$", "$"))
    config = load_config(ROOT / "ducklake.yml")
    assert embedded_services(config) == ()
    shop, files = (source_connection(config, name) for name in ("mysql", "sftp"))
    assert isinstance(shop, MysqlConnection) and isinstance(files, SftpConnection)
    assert (config.endpoints().kafka, shop.host, files.port) == ("kafka:9092", "mysql", 22)
    assert shop.connect_reference == "${dir:/run/ducklake:mysql_password}"
    assert (shop.plain_password, files.plain_password) == ("", "")


def test_the_image_has_the_versions_of_the_lock() -> None:
    locked = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    image = (ROOT / "docker/requirements.lock").read_text(encoding="utf-8")
    assert set(PIN.findall(image)) <= set(PIN.findall(locked))
    assert set(re.findall(r"sha256:\w+", image)) <= set(re.findall(r"sha256:\w+", locked))


def test_what_is_mounted_is_there_and_what_is_run_can_be() -> None:
    for spec in SERVICES.values():
        for volume in spec.get("volumes") or ():
            source = volume.partition(":")[0]
            assert (ROOT / source).exists() if source[0] == "." else source in COMPOSE["volumes"]
    for script in ("docker/ducklake.sh", "docker/sftp-server/host-key.sh"):
        assert os.access(ROOT / script, os.X_OK)


# Passwords, host key, health ----------------------------------------------------------------------


def test_passwords_are_made_once_and_kept(tmp_path: Path) -> None:
    first = containers.make_passwords(tmp_path, {"SFTP_PASSWORD": "chosen"})
    assert first["sftp"] == "chosen"
    assert len({*first.values()}) == len(containers.NAMES)
    assert all(len(first[name]) >= 20 for name in ("mysql_root", "mysql", "postgres"))
    assert containers.make_passwords(tmp_path, {}) == first
    with pytest.raises(ConfigError, match="SFTP_PASSWORD is not the one") as caught:
        containers.make_passwords(tmp_path, {"SFTP_PASSWORD": "another"})
    assert "chosen" not in str(caught.value) and "another" not in str(caught.value)


def test_a_password_that_a_service_could_not_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="MYSQL_PASSWORD"):
        containers.make_passwords(tmp_path, {"MYSQL_PASSWORD": "two words"})


def test_the_host_key_stays_the_same(tmp_path: Path) -> None:
    containers.make_sftp(tmp_path, tmp_path, "word")
    known = (tmp_path / "known_hosts").read_text()
    assert known.startswith("sftp ssh-ed25519 ")
    containers.make_sftp(tmp_path, tmp_path, "word")
    assert (tmp_path / "known_hosts").read_text() == known
    assert (tmp_path / "users.conf").read_text() == "techstore:word:1001:100:upload\n"


def test_a_stopped_process_and_an_absent_service_are_not_healthy() -> None:
    command = ["python", "-m", "ducklake.cli", "consume"]
    assert health.problem(command, "T", {}) == "the process does not run (state T)"
    assert health.problem(command, "S", {}) is None
    nowhere = {"DUCKLAKE_SERVICES__KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    assert "does not answer" in (health.problem(command, "S", nowhere) or "")
    assert health.problem(["ducklake", "compact"], "S", nowhere) is None
