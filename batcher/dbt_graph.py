"""What dbt's manifest says of the models: what each reads, and a fingerprint of its definition."""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from batcher.description import ModelDescription
from batcher.project_basis import environment_of, project_basis
from batcher.project_docs import NO_DOCS, ProjectDocs, project_docs

TRACKED = "change_tracked"
_BUILT_IN = frozenset({"dbt", "dbt_duckdb"})
_CLOCK = re.compile(
    r"\b(current_(date|time|timestamp|localtime|localtimestamp)|local(time|timestamp)"
    r"|get_current_(time|timestamp)|transaction_timestamp|run_started_at|modules\.datetime"
    r"|(now|today)\s*\(\s*\)|age\s*\([^(),]*\))",
    re.I,
)
_ASKS = re.compile(
    r"\b(run_query|statement|load_result|(load|get|load_cached)_relation|get_columns_in_query"
    r"|run_started_at|invocation_id|thread_id|modules)\b"
)
"""What makes the text of a model depend on more than its project and the columns it reads."""
_HOOKS = ("pre-hook", "post-hook", "sql_header", "persist_docs")
_OWN_PACKAGE = "dbt_ducklake"
_LATEST_VERSION = "macro.dbt_ducklake.latest_version"
_NOT_OF_DATA = ("docs", "tags", "group", "access", "packages")
"""Configuration that changes no row."""
_SNAPSHOT, _SEED, _EPHEMERAL = "snapshot", "seed", "ephemeral"


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
        tests: Fingerprint of the data tests that read it, or a source or seed that it reads.
        described: Differs whenever its description does.
        seeds: `schema.name` of the seeds that it reads, and their names as `--select` takes them.
        snapshots: Names of dbt's snapshots that it reads.
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
    tests: str = ""
    described: str = ""
    seeds: tuple[tuple[str, str], ...] = ()
    snapshots: tuple[str, ...] = ()

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
        docs: What the project says of its models, and who reads them.
    """

    models: tuple[ModelNode, ...]
    sources: Mapping[str, str]
    docs: ProjectDocs = NO_DOCS

    @cached_property
    def by_id(self) -> dict[str, ModelNode]:
        """Each model by dbt's name of it."""
        return {model.unique_id: model for model in self.models}

    @cached_property
    def by_relation(self) -> dict[str, ModelNode]:
        """Each model by its `schema.name`."""
        return {model.relation: model for model in self.models}


def model_graph(manifest: Any, project: Path, packages: Path) -> ModelGraph:
    """Read dbt's manifest.

    Args:
        manifest: What `dbtRunner` returns for `parse`.
        project: The project's folder.
        packages: Where its packages are installed.
    """
    reading = _Reading(manifest, project_basis(project, packages))
    found = {unique_id: reading.model(unique_id) for unique_id in reading.models}
    names = {
        source.identifier: f"source:{source.source_name}.{source.name}"
        for source in manifest.sources.values()
        if source.schema == "raw"
    }
    docs = project_docs(manifest, {name: model.relation for name, model in found.items()})
    return ModelGraph(tuple(_in_order(found)), names, docs)


class _Reading:
    """A manifest, and what is asked of it for each model."""

    def __init__(self, manifest: Any, basis: str) -> None:
        self._manifest = manifest
        self._basis = basis
        self._tests = _data_tests(manifest, basis)
        enabled = {name: node for name, node in manifest.nodes.items() if node.config.enabled}
        self._nodes = enabled
        self.models = {
            name: node
            for name, node in enabled.items()
            if node.resource_type == "model" and node.config.materialized != _EPHEMERAL
        }
        self._has_hooks = any(
            node.resource_type == "operation" and node.package_name != _OWN_PACKAGE
            for node in enabled.values()
        )

    def model(self, unique_id: str) -> ModelNode:
        node = self.models[unique_id]
        reads = self._reads(node)
        through = [self._nodes[n] for n in reads if n in self._nodes and n not in self.models]
        seeds = [each for each in through if each.resource_type == _SEED]
        sources = [self._manifest.sources[n] for n in reads if n in self._manifest.sources]
        reads_elsewhere = any(source.schema != "raw" for source in sources)
        inlined = [each for each in through if each.resource_type != _SEED]
        macros: dict[str, str] = {}
        for each in (node, *inlined):
            macros |= _macros_of(self._manifest, each.depends_on.macros)
        code = [node.raw_code, *(each.raw_code for each in inlined), *macros.values()]
        is_tracked = node.config.materialized == TRACKED
        tells = is_tracked and not _is_computed_whole(self._manifest, node)
        tested = [unique_id, *(name for name in reads if name not in self.models)]
        meta = node.config.meta
        return ModelNode(
            unique_id=unique_id,
            relation=f"{node.schema}.{node.alias}",
            name=node.name,
            primary_key=tuple(meta.get("primary_key", ())),
            is_tracked=is_tracked,
            parents=tuple(sorted(name for name in reads if name in self.models)),
            sources=tuple(sorted(s.identifier for s in sources if s.schema == "raw")),
            reads_today=any(_CLOCK.search(part) for part in code),
            fingerprint=self._definition(node, code, seeds),
            is_published=bool(meta.get("published", True)),
            reads_versions=tells and _LATEST_VERSION in macros,
            computes_groups=tells and "dbt_ducklake.touched" in node.raw_code,
            reads_elsewhere=reads_elsewhere,
            has_fixed_text=not (self._has_hooks or reads_elsewhere or through)
            and _has_fixed_text(self._manifest, node, macros),
            tests=_fingerprint(test for name in tested for test in self._tests[name]),
            described=ModelDescription.of_node(node).digest,
            seeds=tuple((f"{seed.schema}.{seed.alias}", seed.name) for seed in seeds),
            snapshots=tuple(e.name for e in through if e.resource_type == _SNAPSHOT),
        )

    def _reads(self, node: Any) -> list[str]:
        """Unique ids of all that a model reads, also through ephemeral models and snapshots."""
        found: dict[str, None] = {}
        pending = list(node.depends_on.nodes)
        while pending:
            name = pending.pop()
            if name in found or (name not in self._nodes and name not in self._manifest.sources):
                continue
            found[name] = None
            if name in self._nodes and name not in self.models:
                pending += getattr(self._nodes[name].depends_on, "nodes", ())  # a seed has none
        return sorted(found)

    def _definition(self, node: Any, code: list[str], seeds: Iterable[Any]) -> str:
        """Fingerprint of everything that defines a model's rows."""
        config = {k: v for k, v in node.config.to_dict().items() if k not in _NOT_OF_DATA}
        types = [(c.name, c.data_type) for c in node.columns.values()]
        if not node.config.contract.enforced:
            types = []
        rows = [seed.checksum.checksum for seed in seeds]
        about = [self._basis, code, environment_of(code), config, types, rows]
        return _fingerprint([json.dumps(about, default=str, sort_keys=True)])


def _is_computed_whole(manifest: Any, node: Any) -> bool:
    """Whether dbt_ducklake computes a tracked model as a whole (its macro `is_computed_whole`)."""
    left_out = node.config.get("untracked") or []
    left_out = [left_out] if isinstance(left_out, str) else left_out
    found = (manifest.nodes.get(n) or manifest.sources.get(n) for n in node.depends_on.nodes)
    inputs = [each for each in found if each is not None and each.name not in left_out]
    inputs = [each for each in inputs if each.resource_type != _SEED]
    is_silent = any(getattr(e.config, "materialized", "") != TRACKED for e in inputs)
    return is_silent and (len(inputs) > 1 or "dbt_ducklake.touched" in node.raw_code)


def _fingerprint(texts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def _data_tests(manifest: Any, basis: str) -> Mapping[str, list[str]]:
    """Everything that defines each data test, by the unique ids of what it reads."""
    found: dict[str, list[str]] = defaultdict(list)
    for unique_id, node in sorted(manifest.nodes.items()):
        if node.resource_type == "test" and node.config.enabled:
            macros = _macros_of(manifest, node.depends_on.macros)
            generic = getattr(node, "test_metadata", None)
            asked = None if generic is None else generic.to_dict()
            told = environment_of([node.raw_code, *macros.values()])
            about = [basis, unique_id, node.raw_code, asked, macros, told, node.config.to_dict()]
            for read in node.depends_on.nodes:
                found[read].append(json.dumps(about, default=str, sort_keys=True))
    return found


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


def _has_fixed_text(manifest: Any, node: Any, macros: Mapping[str, str]) -> bool:
    """Whether nothing but its project and the columns of raw makes a tracked model's statements."""
    config = node.config
    if config.materialized != TRACKED or any(config.get(name) for name in _HOOKS):
        return False
    own = {name for name in macros if manifest.macros[name].package_name == _OWN_PACKAGE}
    code = [node.raw_code, *(text for name, text in macros.items() if name not in own)]
    return not any(_ASKS.search(part) for part in code)


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
