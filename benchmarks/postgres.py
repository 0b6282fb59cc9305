"""An embedded PostgreSQL for benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from lake.config import Config, load_config
from stack import lifecycle

SERVER = """\
name: bench
services:
  kafka: {bootstrap_servers: "127.0.0.1:9"}
  connect: {url: "http://127.0.0.1:9"}
sources:
  s: {type: kafka, tables: {t: {}}}
"""


@contextmanager
def postgres() -> Iterator[Config]:
    """The configuration of a running stack of PostgreSQL alone."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "ducklake.yml"
        path.write_text(SERVER)
        config = load_config(path)
        lifecycle.up(config)
        try:
            yield config
        finally:
            lifecycle.down(config)
