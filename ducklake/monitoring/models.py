"""A model with its documentation, what it reads, and who reads it: dbt's graph and exposures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from batcher.description import NOT_DESCRIBED, ModelDescription
from batcher.project_docs import Exposure, read_docs
from ducklake.monitoring.lineage import Lineage
from ducklake.monitoring.observation import Observation
from ducklake.monitoring.trust import ModelTrust
from lake.storage.paths import LakePaths


@dataclass(frozen=True, slots=True)
class ModelView:
    """A model of the dbt project.

    Attributes:
        model: Its relation.
        reads: The relations that it reads itself, `raw.…` included.
        read_by: The models that read it themselves.
        exposures: Labels of what reads it outside the project.
        docs: What the project says of it.
        trust: Whether it can be trusted; None for one that readers do not see.
    """

    model: str
    reads: tuple[str, ...]
    read_by: tuple[str, ...]
    exposures: tuple[str, ...]
    docs: ModelDescription
    trust: ModelTrust | None = None


def model_views(paths: LakePaths, seen: Observation) -> tuple[ModelView, ...]:
    """All models by relation; nothing before the first cycle.

    Args:
        paths: The lake.
        seen: What is known of their state.
    """
    lineage, docs = Lineage.of(paths), read_docs(paths)
    trust: Mapping[str, ModelTrust] = {one.model: one for one in seen.models}
    return tuple(
        ModelView(
            model,
            lineage.parents[model],
            lineage.children(model),
            tuple(one.label for one in docs.exposures if model in one.reads),
            docs.models.get(model, NOT_DESCRIBED),
            trust.get(model),
        )
        for model in sorted(lineage.parents)
    )


def model_view(paths: LakePaths, seen: Observation, model: str) -> ModelView | None:
    """One of them; None where there is no such model."""
    return next((one for one in model_views(paths, seen) if one.model == model), None)


def exposures(paths: LakePaths) -> tuple[Exposure, ...]:
    """Who reads the models outside the project, as it says."""
    return read_docs(paths).exposures
