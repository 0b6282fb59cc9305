"""Which model reads which relations: kept in the lake for those who look at it without dbt."""

from __future__ import annotations

from collections.abc import Mapping

from batcher.dbt_graph import ModelGraph
from lake.storage.json_files import read_json, replace_json
from lake.storage.paths import LakePaths


def keep_lineage(paths: LakePaths, graph: ModelGraph) -> None:
    """Keep the graph of a project; nothing is written where it is the one that is known.

    Args:
        paths: The lake.
        graph: The project's models.
    """
    parents = {relation: list(read) for relation, read in parents_of(graph).items()}
    if parents != read_json(paths.lineage):
        replace_json(paths.lineage, parents)


def read_lineage(paths: LakePaths) -> Mapping[str, tuple[str, ...]]:
    """Relation of each model to the relations that it reads; empty before the first cycle."""
    return {model: tuple(read) for model, read in read_json(paths.lineage).items()}


def parents_of(graph: ModelGraph) -> dict[str, tuple[str, ...]]:
    """The same of a graph, those that others read first."""
    return {
        model.relation: tuple(
            sorted(
                {graph.by_id[parent].relation for parent in model.parents}
                | {f"raw.{source}" for source in model.sources}
            )
        )
        for model in graph.models
    }
