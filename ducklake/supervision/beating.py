"""A command that runs for ever tells how it is while it runs, and why it ended."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext

from lake.config import Config
from lake.openlineage.recording import lineage_told
from lake.processes.heartbeat import ROLE, SILENT, Heartbeat, RoleHeartbeat
from lake.storage.paths import LakePaths
from lake.storage.privacy import keep_private

MOVING_ROWS = frozenset({"produce", "consume", "batch"})
"""Roles that tell lineage, where the section `lineage` names a target."""


@contextmanager
def beating(config: Config, role: str, once: bool = False) -> Iterator[Heartbeat]:
    """The heartbeat of this process.

    Args:
        config: The configuration.
        role: What the process is; a supervisor may have given it another name.
        once: A command that ends by itself tells nobody but its caller.
    """
    keep_private(config.data_dir)
    if once:
        with _lineage(config, role, SILENT):
            yield SILENT
        return
    from lake.processes.instruments import InstrumentsFile  # loads Prometheus' client

    run = LakePaths(config.data_dir).run
    heartbeat = RoleHeartbeat(run, os.environ.get(ROLE, role))
    try:
        with closing(InstrumentsFile(run, heartbeat.name)), _lineage(config, role, heartbeat):
            yield heartbeat
    except Exception as error:
        heartbeat.close(error)
        raise
    except BaseException:
        heartbeat.close()
        raise
    heartbeat.close()


def _lineage(config: Config, role: str, heartbeat: Heartbeat) -> AbstractContextManager[None]:
    return lineage_told(config, heartbeat) if role in MOVING_ROWS else nullcontext()
