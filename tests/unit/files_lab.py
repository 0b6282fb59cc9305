"""A source of files without Kafka: its batches, and the cursors as a writer would keep them."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import yaml

from lake.config import Config, load_config
from lake.records import Record, Reject
from producers.base import Connector
from producers.registry import check_sources, connector

QUIET = 0.05
OLD = 1_790_000_000


@dataclass
class FilesLab:
    """One source of files, polled by hand."""

    config: Config
    source: Connector
    folder: Path
    cursors: dict[str, Any] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)

    def poll(self) -> None:
        """Poll once, and keep what came."""
        for batch in self.source.poll(dict(self.cursors)):
            self.records += batch.records
            self.rejects += batch.rejects
            self.cursors[batch.key] = orjson.loads(orjson.dumps(batch.cursor))

    def drain(self, seconds: float = 20.0) -> None:
        """Poll until everything is read."""
        deadline = time.monotonic() + seconds
        self.poll()
        while not self.source.settled():
            assert time.monotonic() < deadline, "the source does not settle"
            time.sleep(0.01)
            self.poll()

    def rows(self, table: str = "t") -> list[dict[str, Any]]:
        """The rows of a table, as Kafka would have them."""
        return [orjson.loads(r.payload()) for r in self.records if r.table == table]

    def reasons(self) -> list[str]:
        """Why something was rejected."""
        return [reject.reason for reject in self.rejects]

    def again(self, tables: Mapping[str, Any]) -> FilesLab:
        """The same source after its tables were changed in the file, with its cursors."""
        made = files_lab(self.folder.parent, tables)
        made.cursors = dict(self.cursors)
        return made

    def drop(self, name: str, content: bytes, at: float = OLD) -> Path:
        """Put a file there."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (at, at))
        return path


def files_config(
    root: Path, tables: Mapping[str, Any], source: Mapping[str, Any] | None = None
) -> Config:
    """A configuration with one source of files; services are named, and not asked."""
    made = {
        name: {**spec, "options": {"quiet_seconds": QUIET, **spec.get("options", {})}}
        for name, spec in tables.items()
    }
    path = root / "ducklake.yml"
    path.write_text(
        yaml.safe_dump(
            {
                "services": {
                    "kafka": {"bootstrap_servers": "127.0.0.1:1"},
                    "connect": {"url": "http://127.0.0.1:1"},
                    "postgres": {"host": "127.0.0.1"},
                },
                "sources": {
                    "drops": {
                        **(source or {"type": "files", "directory": "drops"}),
                        "tables": made,
                    }
                },
            }
        )
    )
    return load_config(path)


def files_lab(
    root: Path, tables: Mapping[str, Any], source: Mapping[str, Any] | None = None
) -> FilesLab:
    """A source of files in a folder `drops`, whose files need not hold still for long."""
    folder = root / "drops"
    folder.mkdir(exist_ok=True)
    config = files_config(root, tables, source)
    check_sources(config)
    return FilesLab(config, connector(config, config.endpoints(), "drops"), folder)
