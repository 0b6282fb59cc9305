"""A server that writes no binlog: what asks for its end says so, until its remedy was done."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lake.config import load_config
from lake.config.connections import MysqlConnection
from lake.errors import SourceError
from producers.mysql.query import binlog_end
from producers.mysql.table_reader import TableReader
from stack.mysql import Mysql
from stack.secrets import Secrets
from stack.service import StackContext
from stack.tools import Tools
from tests.integration.producers_lab import wait_until
from tests.ports import free_port

pytestmark = pytest.mark.stack


@contextmanager
def running(server: Mysql, *options: str) -> Iterator[MysqlConnection]:
    process = subprocess.Popen(
        [*server.command(), *options],
        cwd=server.folder,
        env={**os.environ, **server.environment()},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def answers() -> bool:
        try:
            return server.healthy()
        except Exception:
            return False

    try:
        wait_until(answers, "the server answers", 60)
        server.finish()
        yield MysqlConnection(**server.endpoint())
    finally:
        process.terminate()
        process.wait(60)
        server.output.close()


def test_a_server_that_writes_no_binlog_is_named_until_it_writes_one(tmp_path: Path) -> None:
    (tmp_path / "ducklake.yml").write_text("name: servers\nsources: {}\n")
    config = load_config(tmp_path / "ducklake.yml")
    (config.stack_dir / "logs").mkdir(parents=True)
    ports = {"mysql": free_port()}
    secrets = Secrets(config.stack_dir / "secrets.json")
    server = Mysql(StackContext(config, ports, secrets, Tools.locate()))
    server.folder.mkdir(parents=True)
    server.prepare()
    with running(server, "--skip-log-bin") as at:
        named = f"MySQL {at.host}:{at.port} writes no binlog. Set log_bin and binlog_format=ROW"
        with pytest.raises(SourceError, match=named):
            binlog_end(at)
        with TableReader(at) as reader, pytest.raises(SourceError, match=named):
            reader.position()
    with running(server, "--log-bin=binlog", "--binlog-format=ROW") as at:
        file, position = binlog_end(at)
        with TableReader(at) as reader:
            assert (reader.position().file, reader.position().position) == (file, position)
