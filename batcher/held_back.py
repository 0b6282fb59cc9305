"""Relations that could not be exported: state that `ducklake status` shows, and logged once."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from lake.errors import DuckLakeError
from lake.processes.heartbeat import RETRYING, Heartbeat, Part

log = structlog.get_logger()


class HeldBack:
    """The relations whose last state stays in PostgreSQL, as of the last export.

    Args:
        heartbeat: Told about each of them.

    Attributes:
        relations: Relation to the reason.
    """

    def __init__(self, heartbeat: Heartbeat) -> None:
        self.relations: Mapping[str, DuckLakeError] = {}
        self._heartbeat = heartbeat

    def tell(self, relations: Mapping[str, DuckLakeError]) -> None:
        """Take note of what an export held back, and log what is new."""
        before, self.relations = self.relations, dict(relations)
        for relation, error in relations.items():
            part = Part("relation", RETRYING, reason=error.what, remedy=error.remedy)
            self._heartbeat.part(relation, part)
            if relation not in before or before[relation].what != error.what:
                log.warning(
                    "relation_not_exported",
                    message="PostgreSQL keeps its last state; the next cycle retries.",
                    relation=relation,
                    reason=str(error),
                )
        for relation in before.keys() - relations.keys():
            self._heartbeat.forget(relation)
            log.info(
                "relation_exported_again",
                message="It is up to date in PostgreSQL.",
                relation=relation,
            )
