"""The decoders of all topics that a worker may read."""

from __future__ import annotations

from collections.abc import Iterator

from consumers.ingest.announcements import Announcements
from consumers.ingest.decoding import Decoder, make_decoder
from consumers.ingest.decoding.rejects import RejectsDecoder
from consumers.ingest.drift import gate_of
from consumers.ingest.schema_changes import SchemaChanges
from lake.config import Config, Endpoints
from lake.records import REJECTS_TOPIC
from lake.storage.paths import LakePaths


class Decoders:
    """One for each table, and one for the rejects.

    Args:
        config: The configuration.
        endpoints: Where Kafka is.
    """

    def __init__(self, config: Config, endpoints: Endpoints) -> None:
        self._config = config
        self._endpoints = endpoints
        self._changes: dict[str, SchemaChanges] = {}
        self._by_topic = dict(self._made())

    def _made(self) -> Iterator[tuple[str, Decoder]]:
        announcements = Announcements(LakePaths(self._config.data_dir))
        for ref, table in self._config.tables():
            kind = self._config.kind(ref)
            if kind == "cdc" and ref.source not in self._changes:
                self._changes[ref.source] = SchemaChanges(self._endpoints, ref.source)
            gate = gate_of(self._config, ref, table, first=True)
            changes = self._changes.get(ref.source)
            yield ref.topic, make_decoder(ref, table, kind, changes, gate, announcements.look)
        yield REJECTS_TOPIC, RejectsDecoder.of(self._config)

    @property
    def topics(self) -> list[str]:
        """All topics that are read."""
        return list(self._by_topic)

    def __getitem__(self, topic: str) -> Decoder:
        return self._by_topic[topic]

    def close(self) -> None:
        """Let go of the connections to the topics of schema changes."""
        for changes in self._changes.values():
            changes.close()
