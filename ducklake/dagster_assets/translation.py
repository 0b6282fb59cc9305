"""From dbt's manifest to assets and checks: dagster-dbt's translation, with the lake's names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dagster import AssetCheckSpec, AssetKey, AssetSpec
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, dbt_assets

CATALOG = AssetKey("duckdb_catalog")
RELATION = "relation"
"""The metadata of a model's asset that has its `schema.name`."""


class Translator(DagsterDbtTranslator):
    """A model is called `schema/name`; all sources are the lake's catalog."""

    def __init__(self) -> None:
        super().__init__(
            DagsterDbtTranslatorSettings(
                enable_duplicate_source_asset_keys=True, enable_source_tests_as_checks=True
            )
        )

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> AssetKey:
        """The asset of a model, or of a source."""
        if dbt_resource_props["resource_type"] == "source":
            return CATALOG
        return AssetKey(_relation(dbt_resource_props).split("."))

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """Its schema."""
        return str(dbt_resource_props["schema"])

    def get_description(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """What the project says of it."""
        return str(dbt_resource_props.get("description") or "")

    def get_metadata(self, dbt_resource_props: Mapping[str, Any]) -> Mapping[str, Any]:
        """Also its relation."""
        relation = {RELATION: _relation(dbt_resource_props)}
        return {**super().get_metadata(dbt_resource_props), **relation}


def _relation(props: Mapping[str, Any]) -> str:
    return f"{props['schema']}.{props.get('alias') or props['name']}"


def relation_of(spec: AssetSpec) -> str:
    """`schema.name` of a model's asset."""
    return str(spec.metadata[RELATION])


def translated(manifest: Mapping[str, Any]) -> tuple[list[AssetSpec], list[AssetCheckSpec]]:
    """The assets of all models, and the checks of all data tests.

    A test that reads several models, and is attached to none, is one of the first of them.
    """
    translator = Translator()

    @dbt_assets(manifest=manifest, dagster_dbt_translator=translator)
    def models() -> Iterator[Any]:
        """Never run: a cycle materialises what it translates."""
        yield from ()

    specs = [spec.replace_attributes(skippable=True) for spec in models.specs]
    checks = list(models.check_specs)
    checks += _unattached(manifest, translator, {check.name for check in checks})
    return specs, checks


def _unattached(
    manifest: Mapping[str, Any], translator: Translator, known: set[str]
) -> Sequence[AssetCheckSpec]:
    found = []
    for node in manifest["nodes"].values():
        if node["resource_type"] != "test" or node["name"] in known:
            continue
        reads = [name for name in node["depends_on"]["nodes"] if name in manifest["nodes"]]
        model = next((n for n in reads if manifest["nodes"][n]["resource_type"] == "model"), None)
        key = CATALOG if model is None else translator.get_asset_key(manifest["nodes"][model])
        found.append(AssetCheckSpec(node["name"], asset=key, description=node["description"]))
    return found
