"""docker/railway: Railway takes its files, they say what compose says, and nothing is copied."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ducklake.seeding import seed
from lake.config import load_config
from tests.unit.sftp_server import Faults, sftp_server

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docker" / "railway"
SERVICES = ("pipeline", "sftp", "mysql", "postgres", "kafka", "connect", "dashboard", "dagster")
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
VARIABLES = (FOLDER / "variables.env").read_text(encoding="utf-8")
# Railway's reference of configuration as code: each key, and what its value may be.
BUILD: dict[str, Known] = {
    "builder": ("DOCKERFILE", "RAILPACK"),
    "buildCommand": str,
    "dockerfilePath": str,
    "watchPatterns": list,
}
DEPLOY: dict[str, Known] = {
    "startCommand": str,
    "preDeployCommand": list,
    "healthcheckPath": str,
    "healthcheckTimeout": int,
    "restartPolicyType": ("ON_FAILURE", "ALWAYS", "NEVER"),
    "restartPolicyMaxRetries": int,
    "cronSchedule": str,
    "overlapSeconds": str,
    "drainingSeconds": str,
}


Known = tuple[str, ...] | type


def settings(service: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / service / "railway.json").read_text())
    return found


def sections() -> dict[str, dict[str, str]]:
    """Service to its variables."""
    found: dict[str, dict[str, str]] = {}
    for line in VARIABLES.splitlines():
        if title := re.match(r"# \[(\w+)\]", line):
            own = found.setdefault(title[1], {})
        elif "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            own[name] = value
    return found


def script(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def copied(dockerfile: str) -> list[str]:
    """What a Dockerfile takes from the repository."""
    text = script(dockerfile).replace("\\\n", " ")
    lines = [line.split() for line in text.splitlines() if line.startswith("COPY ")]
    words = [[w for w in line[1:] if not w.startswith("--chmod")] for line in lines]
    return [w for line in words if not line[0].startswith("--from") for w in line[:-1]]


@pytest.mark.parametrize("service", SERVICES)
def test_railway_knows_every_key_and_value(service: str) -> None:
    found = settings(service)
    assert found.pop("$schema") == "https://railway.com/railway.schema.json"
    assert {*found} == {"build", "deploy"}
    for part, known in ((found["build"], BUILD), (found["deploy"], DEPLOY)):
        for key, value in part.items():
            wanted = known[key]
            if isinstance(wanted, tuple):
                assert value in wanted, key
            else:
                assert isinstance(value, wanted), key
    assert {"startCommand", "restartPolicyType"} <= {*found["deploy"]}
    assert (ROOT / found["build"]["dockerfilePath"]).is_file()


@pytest.mark.parametrize("service", SERVICES)
def test_a_push_that_changes_what_a_service_is_made_of_deploys_it_anew(service: str) -> None:
    found = settings(service)["build"]
    made_of = [found["dockerfilePath"], *copied(found["dockerfilePath"])]
    made_of.append(f"docker/railway/{service}/railway.json")
    for path in made_of:
        one = path if (ROOT / path).is_file() else f"{path}/some/file"
        patterns = [pattern.lstrip("/") for pattern in found["watchPatterns"]]
        assert any(fnmatch.fnmatch(one, p.replace("/**", "/*")) for p in patterns), path
        assert (ROOT / path).exists(), path
    for pattern in found["watchPatterns"]:
        assert pattern.startswith("/") and [*ROOT.glob(pattern.lstrip("/"))], pattern


def test_what_images_are_built_from_is_sent_to_the_builder() -> None:
    allowed = [line[1:] for line in script(".dockerignore").splitlines() if line.startswith("!")]
    for service in SERVICES:
        for path in copied(settings(service)["build"]["dockerfilePath"]):
            assert any(path == one or path.startswith(f"{one}/") for one in allowed), path


def test_the_files_of_the_shop_exist_once() -> None:
    """No copy is to be kept in step: every image takes them from docker/."""
    tracked = subprocess.run(
        ["git", "ls-files", "-s"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    blobs: dict[str, list[str]] = {}
    for line in tracked:
        about, _, path = line.partition("\t")
        blobs.setdefault(about.split()[1], []).append(path)
    ours = ("docker/mysql/", "docker/sftp/", "docker/postgres/", "docker/sftp-server/")
    for paths in blobs.values():
        if any(path.startswith(ours) for path in paths):
            assert len(paths) == 1, paths
    names = [line.rpartition("/")[2] for line in tracked]
    assert names.count("init.sql") == 1
    assert "no copies" in script("docs/RAILWAY.md")


# As in docker-compose.yml ------------------------------------------------------------------------


def exports(path: str) -> dict[str, str]:
    """The variables that a start script sets."""
    words = re.findall(r"^export (\w+)=(.*)$", script(path), re.MULTILINE)
    return {name: value.strip('"') for name, value in words}


def test_kafka_and_connect_are_set_as_in_compose() -> None:
    kafka, theirs = exports("docker/railway/kafka/start.sh"), COMPOSE["kafka"]["environment"]
    other = {
        "KAFKA_LISTENERS",
        "KAFKA_ADVERTISED_LISTENERS",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP",
        "KAFKA_LOG_DIRS",
    }
    assert {k: v for k, v in kafka.items() if k not in other} == {
        k: str(v) for k, v in theirs.items() if k not in {*other, "KAFKA_HEAP_OPTS"}
    }
    connect, theirs = exports("docker/railway/connect/start.sh"), COMPOSE["connect"]["environment"]
    other = {k for k in {*connect, *theirs} if "CONFIG_PROVIDERS" in k}
    other |= {"BOOTSTRAP_SERVERS", "HEAP_OPTS", "KAFKA_OPTS"}
    assert {k: v for k, v in connect.items() if k not in other} == {
        k: str(v).strip() for k, v in theirs.items() if k not in other
    }


def test_mysql_is_started_as_in_compose() -> None:
    text = script("docker/railway/mysql/start.sh").replace("\\\n", " ")
    [line] = [line for line in text.splitlines() if line.startswith("exec ")]
    options = [word for word in shlex.split(line) if word.startswith("--")]
    assert options == ["--datadir=/var/lib/mysql/data", *COMPOSE["mysql"]["command"]]


@pytest.mark.parametrize("service", ["kafka", "connect", "mysql", "postgres", "sftp"])
def test_images_are_those_of_compose(service: str) -> None:
    last = re.findall(r"^FROM (\S+)", script(f"docker/railway/{service}/Dockerfile"), re.MULTILINE)
    assert last[-1] == COMPOSE[service]["image"]


def test_variables_refer_to_what_there_is_and_hold_no_secret() -> None:
    found = sections()
    assert [name.lower() for name in found] == [
        "mysql", "postgres", "kafka", "connect", "sftp", "pipeline", "dashboard", "dagster"
    ]  # fmt: skip
    given = {"RAILWAY_PRIVATE_DOMAIN"}
    for service, variables in found.items():
        for name, value in variables.items():
            if re.search(r"PASSWORD|TOKEN", name):
                assert value.startswith("${"), name
            for reference in re.findall(r"\$\{\{([^}]+)\}\}", value):
                if reference.startswith("secret("):
                    continue
                of, _, variable = reference.rpartition(".")
                assert variable in found[of or service].keys() | given, reference
    addresses = {k for k in COMPOSE["producers"]["environment"] if k.startswith("DUCKLAKE_")}
    assert addresses <= {*found["Pipeline"]}
    page = script("docs/RAILWAY.md")
    for service, volume in re.findall(r"# \[(\w+)\]  volume: (\S+)", VARIABLES):
        shown = volume.replace("/home/", "~")
        assert re.search(rf"\| {service} \|.*`{shown}`", page), service


@pytest.mark.parametrize("name", ["connect", "postgres", "sftp", "kafka"])
def test_a_start_without_its_variables_names_them_and_where_they_come_from(name: str) -> None:
    done = subprocess.run(
        ["sh", str(FOLDER / name / "start.sh")], env={}, capture_output=True, text=True, timeout=30
    )
    assert done.returncode != 0
    assert re.search(r"(PASSWORD|DOMAIN): ", done.stderr), done.stderr


# Seeding -----------------------------------------------------------------------------------------


def test_a_server_gets_the_sample_files_once_and_its_key_is_noted(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "sftp").symlink_to(ROOT / "docker" / "sftp")
    with sftp_server(tmp_path / "root", Faults()) as at:
        keys = {**at, "known_hosts": "kept/known_hosts"}
        (tmp_path / "kept").mkdir()
        (tmp_path / "ducklake.yml").write_text(
            yaml.safe_dump(
                {
                    "name": "seeded",
                    "services": {
                        "kafka": {"bootstrap_servers": "127.0.0.1:9"},
                        "postgres": {"host": "127.0.0.1"},
                    },
                    "sources": {
                        "drops": {
                            "type": "sftp",
                            "connection": keys,
                            "tables": {"suppliers": {"file": "suppliers.json"}},
                        }
                    },
                }
            )
        )
        config = load_config(tmp_path / "ducklake.yml")
        noted, placed = seed(config, wants_samples=True)
        fingerprint = re.search(r"is (SHA256:\S+): compare", noted)
        assert fingerprint, noted
        known = (tmp_path / "kept" / "known_hosts").read_text()
        assert known.split()[1:] == Path(at["known_hosts"]).read_text().split()[1:]
        there = {path.name for path in (tmp_path / "root").iterdir()}
        assert "suppliers.json" in there and f"{len(there)} sample files" in placed
        assert [*seed(config, wants_samples=True)] == ["source drops: 0 sample files were placed"]
        assert [*seed(config, wants_samples=False)] == []


# start.sh ----------------------------------------------------------------------------------------


def start(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(FOLDER / "start.sh")],
        env={
            "PATH": f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "DUCKLAKE_DATA_DIR": str(folder),
            "DUCKLAKE_CONFIG": str(folder / "ducklake.yml"),
            "DUCKLAKE_SERVICES__KAFKA__BOOTSTRAP_SERVERS": "",
            "DUCKLAKE_SERVICES__CONNECT__URL": "",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_service_that_does_not_come_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        up = f"127.0.0.1:{server.getsockname()[1]}"
        done = start(
            tmp_path,
            DUCKLAKE_SERVICES__KAFKA__BOOTSTRAP_SERVERS=f"{up},other:9",
            DUCKLAKE_SERVICES__CONNECT__URL="http://127.0.0.1:9/",
            DUCKLAKE_WAIT_SECONDS="2",
        )
    assert done.returncode == 69
    assert f"kafka answers at {up}" in done.stderr
    assert "connect does not answer at 127.0.0.1:9 within 2 s" in done.stderr


def test_a_role_that_ends_is_the_end_of_the_container_and_is_named(tmp_path: Path) -> None:
    (tmp_path / ".seeded").touch()
    role = tmp_path / "ducklake"
    role.write_text(
        "#!/bin/sh\ncase $1 in consume) sleep 0.5; exit 7 ;; esac\n"
        f"trap 'echo $1 >>{tmp_path}/ended; exit 0' TERM\nwhile :; do sleep 0.1; done\n"
    )
    role.chmod(0o755)
    done = start(tmp_path, DUCKLAKE_ROLES="produce consume batch")
    assert done.returncode == 7
    assert "the role consume ended with exit code 7" in done.stderr
    assert sorted((tmp_path / "ended").read_text().split()) == ["batch", "produce"]


def test_a_seeding_that_fails_is_named_and_leaves_no_mark(tmp_path: Path) -> None:
    done = start(tmp_path, DUCKLAKE_ROLES="produce")
    assert done.returncode == 70 and "the seeding failed" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / ".seeded").exists()
