"""The services of the tests from containers: an address that containers share, or a named failure.

The engine is a program that answers as dockerd 20.10 does, since dockerd needs root.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tests.compose.engine import Engine, WrongAddress, bridge_address
from tests.compose.services import _check_reach, _wait_healthy

FIRST_START = [{"Subnet": "172.17.0.0/16"}]
LATER_START = [{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}]


def engine(folder: Path, **answers: str) -> Engine:
    """An engine whose `docker WORD …` does what the shell does with the word's answer."""
    cases = "".join(f"{word}) {answer};;\n" for word, answer in answers.items())
    program = folder / "docker"
    program.write_text(f'#!{shutil.which("sh")}\ncase "$1" in\n{cases}esac\n')
    program.chmod(0o755)
    return Engine({"PATH": f"{folder}:{os.environ['PATH']}"})


def with_bridge(folder: Path, configs: list[dict[str, str]]) -> Engine:
    options = {"com.docker.network.bridge.name": "docker0"}
    (folder / "bridge.json").write_text(
        json.dumps([{"IPAM": {"Config": configs}, "Options": options}])
    )
    return engine(folder, network=f"cat {folder}/bridge.json")


@pytest.mark.parametrize("configs", [FIRST_START, LATER_START], ids=["first start", "later"])
def test_the_bridge_has_its_address_from_the_first_start_of_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configs: list[dict[str, str]]
) -> None:
    address = SimpleNamespace(family=socket.AF_INET, address="172.17.0.1")
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: {"docker0": [address]})
    assert bridge_address(with_bridge(tmp_path, configs)) == "172.17.0.1"


def test_a_bridge_that_is_not_on_this_machine_is_a_named_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "net_if_addrs", dict)
    with pytest.raises(WrongAddress, match="docker0 has no IPv4 address"):
        bridge_address(with_bridge(tmp_path, LATER_START))


def test_an_address_that_containers_do_not_reach_is_a_named_failure(tmp_path: Path) -> None:
    with pytest.raises(WrongAddress, match=r"healthy, at 172\.17\.0\.1:41353"):
        _check_reach(engine(tmp_path, exec="exit 1"), "kafka", "172.17.0.1", 41353)


def test_a_container_that_has_ended_is_not_waited_for(tmp_path: Path) -> None:
    ended = engine(tmp_path, exec="exit 1", inspect="echo exited", logs="echo no broker >&2")
    with pytest.raises(AssertionError, match="not healthy, exited\nno broker"):
        _wait_healthy(ended, "connect", ["CMD", "true"])
