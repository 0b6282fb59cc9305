"""`ducklake logs`: lines of all logs in their order, over a rotation, safe to show."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ducklake.cli.logs import LogTail, logs
from lake.config import Config, load_config
from lake.errors import ConfigError
from lake.processes.child import CappedLog, LogLimits, log_limits
from lake.storage.paths import LakePaths

SETTINGS = """\
name: logs
services: {kafka: {bootstrap_servers: "127.0.0.1:9"}, postgres: {host: 127.0.0.1}}
sources: {shop: {type: plain, tables: {orders: {}}}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "ducklake.yml").write_text(SETTINGS)
    return load_config(tmp_path / "ducklake.yml")


def write(config: Config, role: str, text: str, folder: Path | None = None) -> None:
    folder = folder or LakePaths(config.data_dir).logs
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{role}.log").open("a") as file:
        file.write(text)


def test_lines_of_all_roles_and_services_come_in_their_order(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    write(config, "consume", "2026-11-27T10:00:01Z [info] one\nhow\n2026-11-27T10:00:03Z three\n")
    write(config, "batch", "\x1b[2m2026-11-27T10:00:02Z\x1b[0m two \x07\n")
    write(config, "kafka", "[2026-11-27 10:00:04,500] INFO four\n", config.stack_dir / "logs")
    logs(config, [], 20, None, False)
    said = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert [role for role, _ in said] == ["consume", "consume", "batch", "consume", "kafka"]
    assert said[1][1] == "how" and said[2][1] == r"2026-11-27T10:00:02Z two \x07"
    logs(config, ["batch"], 20, None, True)
    assert '"role": "batch", "moment": "2026-11-27T10:00:02"' in capsys.readouterr().out


def test_a_role_without_a_log_is_refused_with_the_nearest(config: Config) -> None:
    with pytest.raises(ConfigError, match="no logs yet"):
        logs(config, [], 20, None, False)
    write(config, "consume", "one\n")
    with pytest.raises(ConfigError, match="did you mean 'consume'"):
        logs(config, ["consumr"], 20, None, False)


def test_no_line_is_missed_or_told_twice_where_a_log_is_put_aside(tmp_path: Path) -> None:
    log = CappedLog(tmp_path / "batch.log", LogLimits(40))
    tail = LogTail("batch", log.path)
    told = []
    for number in range(30):
        log.write(b"line %02d\n" % number)
        if number % 3 == 0:
            told += [line.text for line in tail.new()]
    log.close()
    told += [line.text for line in tail.new()]
    assert told == [f"line {number:02}" for number in range(30)]
    newest = [line.text for line in LogTail("batch", log.path).last(6)]
    assert newest == [f"line {number:02}" for number in range(24, 30)]


def test_logs_are_kept_as_configured(config: Config, tmp_path: Path) -> None:
    path = config.path
    path.write_text(path.read_text() + "logs: {max_mb: 0.0001, keep: 2}\n")
    limits = log_limits(load_config(path))
    assert limits == LogLimits(105, 2)
    log = CappedLog(tmp_path / "batch.log", LogLimits(limits.bytes, 4))
    for number in range(60):
        log.write(b"line %02d\n" % number)
    log.close()
    assert sum(1 for _ in tmp_path.glob("batch.log.*")) == 4
    fewer = CappedLog(tmp_path / "batch.log", limits)
    for number in range(60, 100):
        fewer.write(b"line %02d\n" % number)
    fewer.close()
    kept = {file.name: file.read_text().splitlines() for file in tmp_path.glob("batch.log*")}
    assert set(kept) == {"batch.log", "batch.log.1", "batch.log.2"}, "no more than are wanted now"
    newest = kept["batch.log.2"] + kept["batch.log.1"] + kept["batch.log"]
    assert newest == [f"line {number:02}" for number in range(100 - len(newest), 100)]


def test_a_line_that_is_not_whole_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "live.log"
    path.write_text("whole\nha")
    tail = LogTail("live", path)
    assert [line.text for line in tail.new()] == ["whole"]
    with path.open("a") as file:
        file.write("lf\n")
    assert [line.text for line in tail.new()] == ["half"]


def test_following_tells_what_comes_also_of_a_role_that_starts_later(config: Config) -> None:
    write(config, "consume", "first\n")
    with subprocess.Popen(
        [sys.executable, "-m", "ducklake.cli", "logs", "--follow", "--config", str(config.path)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().split() == ["consume", "first"]
        write(config, "batch", "second\n")
        assert process.stdout.readline().split() == ["batch", "second"]
        process.terminate()
        assert process.wait(60) == 0
