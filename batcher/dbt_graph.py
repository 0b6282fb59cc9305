"""What dbt's manifest says of the models: what each reads, and a fingerprint of its definition."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

TRACKED = "change_tracked"
_BUILT_IN = frozenset({"dbt", "dbt_duckdb"})
_CLOCK = re.compile(r"\b(current_date|current_timestamp|now\(\)|today\(\))", re.I)
_ASKS = re.compile(
    r"\b(run_query|statement|load_result|(load|get|load_cached)_relation|get_columns_in_query"
    r"|run_started_at|invocation_id|thread_id|modules)\b"
)
"""What makes the text of a model depend on more than its project and the columns it reads."""
_HOOKS = ("pre-hook", "post-hook", "sql_header", "persist_docs")
_OWN_PACKAGE = "dbt_ducklake"
_CONFIG = (
    "materialized",
    "unique_key",
    "group_by",
    "meta",
    "schema",
    "alias",
    "contract",
)


@dataclass(frozen=True, slots=True)
class ModelNode:
    """A model as the project defines it.

    Attributes:
        unique_id: dbt's name of it.
        relation: `schema.name` in the warehouse.
        name: As `--select` takes it.
        primary_key: Columns of its key.
        is_tracked: Whether its changes are kept, row by row.
        parents: Unique ids of the models that it reads.
        sources: Raw relations that it reads, as `raw` has them.
        reads_today: Whether its result depends on the calendar.
        fingerprint: Of everything that defines it.
        is_published: Whether others see it.
        reads_versions: Whether it reads the latest version of each key, and so only new records.
        reads_elsewhere: Whether it reads a source that is not the lake's.
        computes_groups: Whether it says which groups a change touches.
        has_fixed_text: Whether dbt would run the same statements for it in each cycle.
    """

    unique_id: str
    relation: str
    name: str
    primary_key: tuple[str, ...]
    is_tracked: bool
    parents: tuple[str, ...]
    sources: tuple[str, ...]
    reads_today: bool
    fingerprint: str
    is_published: bool = True
    reads_versions: bool = False
    reads_elsewhere: bool = False
    computes_groups: bool = False
    has_fixed_text: bool = False

    @property
    def is_computed_whole(self) -> bool:
        """Whether it is computed as a whole whenever something before it changed."""
        return not (self.is_tracked and (self.reads_versions or self.computes_groups))


@dataclass(frozen=True)
class ModelGraph:
    """All models of a project, those that others read first.

    Attributes:
        models: The models.
        sources: Raw relation to its name as `--select` takes it.
    """

    models: tuple[ModelNode, ...]
    sources: Mapping[str, str]

    @cached_property
    def by_id(self) -> dict[str, ModelNode]:
        """Each model by dbt's name of it."""
        return {model.unique_id: model for model in self.models}

    @cached_property
    def by_relation(self) -> dict[str, ModelNode]:
        """Each model by its `schema.name`."""
        return {model.relation: model for model in self.models}


def model_graph(manifest: Any, project: Path) -> ModelGraph:
    """Read dbt's manifest.

    Args:
        manifest: What `dbtRunner` returns for `parse`.
        project: The project's folder.
    """
    basis = (project / "dbt_project.yml").read_text(encoding="utf-8")
    nodes = {
        unique_id: node
        for unique_id, node in manifest.nodes.items()
        if node.resource_type == "model" and node.config.enabled
    }
    has_hooks = any(
        node.resource_type == "operation" and node.package_name != _OWN_PACKAGE
        for node in manifest.nodes.values()
    )
    found = {}
    for unique_id, node in nodes.items():
        macros = _macros_of(manifest, node.depends_on.macros)
        code = [node.raw_code, *macros.values()]
        config = {key: node.config.get(key) for key in _CONFIG}
        types = [(c.name, c.data_type) for c in node.columns.values()]
        if not node.config.contract.enforced:
            types = []
        text = json.dumps([basis, code, config, types], default=str, sort_keys=True)
        parents, sources = _reads(manifest, nodes, node)
        meta, is_tracked = node.config.meta, node.config.materialized == TRACKED
        found[unique_id] = ModelNode(
            unique_id=unique_id,
            relation=f"{node.schema}.{node.alias}",
            name=node.name,
            primary_key=tuple(meta.get("primary_key", ())),
            is_tracked=is_tracked,
            parents=tuple(parents),
            sources=tuple(sources),
            reads_today=any(_CLOCK.search(part) for part in code),
            fingerprint=hashlib.sha256(text.encode()).hexdigest()[:16],
            is_published=bool(meta.get("published", True)),
            reads_versions=is_tracked and "dbt_ducklake.latest_version" in node.raw_code,
            computes_groups=is_tracked and "dbt_ducklake.touched" in node.raw_code,
            reads_elsewhere=_reads_elsewhere(manifest, node),
            has_fixed_text=not has_hooks and _has_fixed_text(manifest, node, macros),
        )
    names = {
        source.identifier: f"source:{source.source_name}.{source.name}"
        for source in manifest.sources.values()
        if source.schema == "raw"
    }
    return ModelGraph(tuple(_in_order(found)), names)


def _macros_of(manifest: Any, names: Iterable[str]) -> dict[str, str]:
    """The text of macros and of all that they call, dbt's own left out."""
    found: dict[str, str] = {}
    pending = sorted(names)
    while pending:
        name = pending.pop()
        macro = manifest.macros.get(name)
        if name in found or macro is None or macro.package_name in _BUILT_IN:
            continue
        found[name] = macro.macro_sql
        pending += sorted(macro.depends_on.macros)
    return dict(sorted(found.items()))


def _reads(manifest: Any, models: Mapping[str, Any], node: Any) -> tuple[list[str], list[str]]:
    """The models and raw relations that a model reads."""
    parents = [n for n in node.depends_on.nodes if n in models]
    found = (manifest.sources[n] for n in node.depends_on.nodes if n in manifest.sources)
    sources = [source.identifier for source in found if source.schema == "raw"]
    return sorted(parents), sorted(sources)


def _reads_elsewhere(manifest: Any, node: Any) -> bool:
    names = (name for name in node.depends_on.nodes if name in manifest.sources)
    return any(manifest.sources[name].schema != "raw" for name in names)


def _has_fixed_text(manifest: Any, node: Any, macros: Mapping[str, str]) -> bool:
    """Whether nothing but its project and the columns of raw makes a tracked model's statements."""
    config = node.config
    if config.materialized != TRACKED or any(config.get(name) for name in _HOOKS):
        return False
    own = {name for name in macros if manifest.macros[name].package_name == _OWN_PACKAGE}
    code = [node.raw_code, *(text for name, text in macros.items() if name not in own)]
    return not _reads_elsewhere(manifest, node) and not any(_ASKS.search(part) for part in code)


def _in_order(models: Mapping[str, ModelNode]) -> Iterable[ModelNode]:
    """Each model after those that it reads."""
    done: set[str] = set()

    def visit(model: ModelNode) -> Iterable[ModelNode]:
        if model.unique_id not in done:
            done.add(model.unique_id)
            for parent in model.parents:
                yield from visit(models[parent])
            yield model

    for unique_id in sorted(models):
        yield from visit(models[unique_id])
