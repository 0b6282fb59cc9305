"""docker-compose.yml, the image and their pages agree, and promise what docs/COMPOSE.md says."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ducklake import containers, health
from lake.config import MysqlConnection, SftpConnection, load_config
from lake.errors import ConfigError
from lake.processes.heartbeat import RoleHeartbeat
from producers.registry import embedded_services, source_connection
from stack.connect import CLIENT_SETTINGS
from stack.converter import REST_POLICY

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name for name, spec in SERVICES.items() if "ducklake-stream:local" in spec["image"]}
PIN = re.compile(r"^([a-z0-9-]+)(?:\[[^]]*\])?==(\S+)", re.MULTILINE)


def test_every_role_and_service_is_there() -> None:
    optional = {name: spec["profiles"] for name, spec in SERVICES.items() if "profiles" in spec}
    observability = {name: ["observability"] for name in ("grafana", "prometheus")}
    alone = {name: [name] for name in ("dagster", "kafka-ui")}
    assert optional == {**alone, **observability}
    for name in observability:  # no tag that moves
        assert re.fullmatch(r"\w+/\w+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])
    for name in observability:  # no tag that moves
        assert re.fullmatch(r"\w+/\w+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_is_bounded_and_listens_on_loopback_alone(name: str) -> None:
    spec = SERVICES[name]
    assert spec["mem_limit"]
    for port in spec.get("ports", ()):
        assert re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z_]+:-\d+\}:\d+", port), port
    assert spec["cap_drop"] == ["ALL"]
    assert spec["security_opt"] == ["no-new-privileges:true"]
    assert name == "init" or spec.get("networks") or spec["network_mode"] == "none"
    if name in OURS:
        assert spec["read_only"] and "cap_add" not in spec
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
    assert shop.connect_reference == "${dir:/run/ducklake/mysql:password}"
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
    scripts = ("docker/ducklake.sh", "docker/sftp-server/host-key.sh", "docker/postgres/role.sh")
    for script in scripts:
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


def test_each_password_has_a_folder_of_its_own_and_connect_its_login(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    passwords = containers.make_passwords(tmp_path / "kept", {})
    for file in (tmp_path / "kept").iterdir():
        assert file.stat().st_mode & 0o077 == 0
    containers.hand_out(passwords, tmp_path)
    for name, password in passwords.items():
        assert (tmp_path / name / "password").read_text() == password
    users = (tmp_path / "connect" / "users.properties").read_text()
    assert users == f"ducklake: {passwords['connect']}\n"
    assert "/run/ducklake/connect/users.properties" in (tmp_path / "connect/jaas.conf").read_text()


def test_the_rights_of_connects_clients_are_those_of_the_embedded_stack() -> None:
    environment = SERVICES["connect"]["environment"]
    allowed = environment["CONNECT_CONNECTOR_CLIENT_CONFIG_OVERRIDE_ALLOWLIST"]
    assert tuple(allowed.split(",")) == CLIENT_SETTINGS
    assert environment["CONNECT_REST_EXTENSION_CLASSES"].endswith(f",{REST_POLICY}")


def test_a_secret_is_mounted_by_those_who_need_it_alone() -> None:
    held = {
        name: {v.partition(":")[0] for v in spec.get("volumes") or () if v.startswith("secret")}
        for name, spec in SERVICES.items()
        if name != "init"
    }
    assert not [name for name, volumes in held.items() if "secrets" in volumes]
    assert [n for n, volumes in held.items() if "secret-mysql-root" in volumes] == ["mysql"]
    assert [n for n, volumes in held.items() if "secret-postgres-admin" in volumes] == ["postgres"]
    assert held["connect"] == {"secret-mysql", "secret-connect"}
    assert not any(held[name] for name in ("kafka", "consumer", "compactor", "live", "api"))
    assert "ports" not in SERVICES["connect"]


def test_the_host_key_stays_the_same(tmp_path: Path) -> None:
    containers.make_sftp(tmp_path, tmp_path / "known_hosts", "word")
    known = (tmp_path / "known_hosts").read_text()
    assert known.startswith("sftp ssh-ed25519 ")
    containers.make_sftp(tmp_path, tmp_path / "known_hosts", "word")
    assert (tmp_path / "known_hosts").read_text() == known
    assert (tmp_path / "users.conf").read_text() == "techstore:word:1001:100:upload\n"


def test_a_role_whose_main_loop_stands_still_is_not_healthy(tmp_path: Path) -> None:
    command, lake = ["ducklake", "compact"], {"DUCKLAKE_DATA_DIR": str(tmp_path)}
    assert health.problem(command, "S", lake) == "it has no heartbeat"
    heartbeat = RoleHeartbeat(tmp_path / "run", "compact")
    heartbeat.beat("compacting", 60)
    assert health.problem(command, "S", lake) is None
    file = tmp_path / "run" / "compact.json"
    os.utime(file, (0, 0))
    assert "the main loop has not moved" in (health.problem(command, "S", lake) or "")
    told = json.loads(file.read_text())
    file.write_text(json.dumps({**told, "host": "another"}))
    assert health.problem(command, "S", lake) == "it has no heartbeat"
    heartbeat.close()


def test_a_stopped_process_and_an_absent_service_are_not_healthy() -> None:
    command = ["python", "-m", "ducklake.cli", "consume"]
    assert health.problem(command, "T", {}) == "the process does not run (state T)"
    assert health.problem(command, "S", {}) is None
    nowhere = {"DUCKLAKE_SERVICES__KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    assert "does not answer" in (health.problem(command, "S", nowhere) or "")
    assert health.problem(["ducklake", "compact"], "S", nowhere) is None
