"""What a dbt project says of its models and of who reads them: kept in the lake for its readers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from batcher.description import ModelDescription
from lake.storage.json_files import read_json, replace_json
from lake.storage.paths import LakePaths


@dataclass(frozen=True, slots=True)
class Exposure:
    """Something outside the project that reads its models.

    Attributes:
        name: Its name.
        label: As people call it.
        type: `dashboard`, `notebook`, `analysis`, `ml` or `application`.
        text: What it is.
        owner: Who answers for it.
        url: Where it is; empty where nobody says.
        reads: The relations of the models that it reads.
    """

    name: str
    label: str
    type: str
    text: str
    owner: str
    url: str
    reads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProjectDocs:
    """Everything that is documented.

    Attributes:
        models: By relation.
        exposures: By name.
    """

    models: Mapping[str, ModelDescription] = field(default_factory=dict)
    exposures: tuple[Exposure, ...] = ()


NO_DOCS = ProjectDocs()


def project_docs(manifest: Any, relations: Mapping[str, str]) -> ProjectDocs:
    """Read dbt's manifest.

    Args:
        manifest: What `dbtRunner` returns for `parse`.
        relations: Unique id of each model to its relation.
    """
    models = {
        relation: ModelDescription.of_node(manifest.nodes[unique_id])
        for unique_id, relation in relations.items()
    }
    found = (_exposure(each, relations) for each in manifest.exposures.values())
    return ProjectDocs(models, tuple(sorted(found, key=lambda one: one.name)))


def _exposure(node: Any, relations: Mapping[str, str]) -> Exposure:
    return Exposure(
        str(node.name),
        str(node.label or node.name),
        str(getattr(node.type, "value", node.type)),
        str(node.description or "").strip(),
        str(node.owner.name or node.owner.email or ""),
        str(node.url or ""),
        tuple(sorted(relations[each] for each in node.depends_on.nodes if each in relations)),
    )


def keep_docs(paths: LakePaths, docs: ProjectDocs) -> None:
    """Keep what a project says; nothing is written where it is what is known."""
    if docs != read_docs(paths):
        replace_json(paths.project_docs, asdict(docs))


def read_docs(paths: LakePaths) -> ProjectDocs:
    """What is documented; nothing before the first cycle."""
    found = read_json(paths.project_docs)
    return ProjectDocs(
        {
            relation: ModelDescription(tuple(one["primary_key"]), one["text"], one["columns"])
            for relation, one in found.get("models", {}).items()
        },
        tuple(_kept(found.get("exposures", ()))),
    )


def _kept(found: Iterable[Mapping[str, Any]]) -> Iterable[Exposure]:
    return (Exposure(**{**one, "reads": tuple(one["reads"])}) for one in found)
