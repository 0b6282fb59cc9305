"""How tables are called: their topic in Kafka, and their relation in the schema raw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lake.identifiers import fitting

DEAD_LETTERS = "dead_letters"
"""The project's own relation in the schema raw."""
TOPIC_CHARACTERS = 249
"""Kafka's limit."""


@dataclass(frozen=True, slots=True)
class TableRef:
    """A table by its two names; `topic` is where its records travel."""

    source: str
    table: str

    @property
    def topic(self) -> str:
        """The Kafka topic, `{source}.{table}`."""
        return f"{self.source}.{self.table}"


def relation_names(refs: Sequence[TableRef]) -> dict[TableRef, str]:
    """The relation of each table: its own name, or `{source}__{table}` where several share it.

    A name that PostgreSQL would cut is shortened (`fitting`), in DuckDB as well.
    """
    shared = Counter(ref.table for ref in refs)
    return {
        ref: fitting(ref.table if shared[ref.table] == 1 else f"{ref.source}__{ref.table}")
        for ref in refs
    }


@dataclass(frozen=True, slots=True)
class NameCollision:
    """A table that cannot be called as it would be."""

    ref: TableRef
    what: str


def name_collisions(names: dict[TableRef, str]) -> Iterator[NameCollision]:
    """Tables whose relation or topic would be the one of something else."""
    relations: dict[str, TableRef] = {}
    topics: dict[str, TableRef] = {}
    for ref, name in names.items():
        other = relations.setdefault(name, ref)
        if name == DEAD_LETTERS:
            yield NameCollision(ref, f"raw.{name} holds what could not be decoded")
        elif other is not ref:
            yield NameCollision(
                ref, f"its relation would be raw.{name}, which is the one of {other.topic}"
            )
        if len(ref.topic) > TOPIC_CHARACTERS:
            yield NameCollision(
                ref,
                f"the topic {{source}}.{{table}} would have {len(ref.topic)} characters, and Kafka"
                f" takes {TOPIC_CHARACTERS}",
            )
        # Kafka refuses a topic that differs from another one only by dots and underscores.
        other = topics.setdefault(ref.topic.replace(".", "_"), ref)
        if other is not ref:
            yield NameCollision(
                ref, f"Kafka cannot tell the topic {ref.topic} from the one of {other.topic}"
            )
