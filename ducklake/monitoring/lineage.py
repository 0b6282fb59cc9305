"""Which model reads which relations, as the batch last read it from the dbt project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from batcher.lineage import read_lineage
from batcher.waiting_rows import upstream
from lake.storage.paths import LakePaths


@dataclass(frozen=True, slots=True)
class Lineage:
    """The models of the project.

    Attributes:
        parents: Relation of each model to the relations that it reads, `raw.…` included.
    """

    parents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, paths: LakePaths) -> Lineage:
        """What is known of a lake's models; nothing before its first cycle."""
        return cls(read_lineage(paths))

    def children(self, relation: str) -> tuple[str, ...]:
        """The models that read a relation themselves."""
        return tuple(sorted(model for model, read in self.parents.items() if relation in read))

    def upstream(self, relation: str) -> frozenset[str]:
        """Everything from which a relation comes."""
        return upstream(self.parents, relation)
