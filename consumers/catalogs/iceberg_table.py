"""One Iceberg table over the public files of one raw table: what it lists, and one commit of it.

The table never owns a file: `gc.enabled` is off, so that no engine deletes one. Its position in the
ledger is among its properties, which change in the same commit as its files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError, NoSuchTableError
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import parquet_file_to_data_file
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table, TableProperties, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.name_mapping import create_mapping_from_schema
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update.snapshot import ExpireSnapshots
from pyiceberg.transforms import DayTransform

from consumers.catalogs.iceberg_catalog import address_of, path_of
from consumers.catalogs.iceberg_types import FileColumns, change_for, columns_of, fields_of
from consumers.catalogs.planning import FileKey, Step, key_of
from lake.config import TableRef
from lake.errors import LedgerError
from lake.failpoints import failpoint
from lake.ledger import LakeFile
from lake.ledger.sealed import SealedPosition, Totals

DAY_COLUMN = "_kafka_ts"
"""A public file holds rows of one day of it, as its folder says."""
_LEDGER, _GENERATION, _FILE = "ducklake.ledger", "ducklake.generation", "ducklake.file-id"
_FIRST_PARTITION_FIELD = 1000
_MERGED_AT = 10
_BYTES_PER_COLUMN = 5_000
"""Of a manifest of about a hundred files: longer ones cost more to merge, shorter ones are many."""
_METADATA_VERSIONS = 10


def load(catalog: Catalog, ref: TableRef) -> Table | None:
    """The table; None where the catalogue has none.

    Raises:
        FileNotFoundError: Its metadata is gone.
    """
    try:
        return catalog.load_table(identifier(ref))
    except NoSuchTableError:
        return None


def forget(catalog: Catalog, ref: TableRef) -> None:
    """Have the catalogue name the table no more, whatever became of its metadata."""
    with suppress(NoSuchTableError):
        catalog.drop_table(identifier(ref))


def identifier(ref: TableRef) -> tuple[str, str]:
    """Namespace and name: the source, and the table."""
    return ref.source, ref.table


def create(
    catalog: Catalog, ref: TableRef, location: str | None, first: Iterable[LakeFile]
) -> Table:
    """An empty table with the columns of some files, partitioned by their day.

    Raises:
        SchemaDrift: A column has no place in Iceberg.
    """
    schema = Schema(*fields_of(columns_of(file.path) for file in first))
    day = schema.find_field(DAY_COLUMN)
    spec = PartitionSpec(
        PartitionField(day.field_id, _FIRST_PARTITION_FIELD, DayTransform(), f"{DAY_COLUMN}_day")
    )
    with suppress(NamespaceAlreadyExistsError):
        catalog.create_namespace(ref.source)
    properties = {
        "format-version": "2",
        "gc.enabled": "false",
        TableProperties.METADATA_PREVIOUS_VERSIONS_MAX: str(_METADATA_VERSIONS),
        TableProperties.METADATA_DELETE_AFTER_COMMIT_ENABLED: "true",
        TableProperties.COMMIT_NUM_RETRIES: "0",
        TableProperties.MANIFEST_MERGE_ENABLED: "true",
        TableProperties.MANIFEST_MIN_MERGE_COUNT: str(_MERGED_AT),
        **_of_schema(schema),
    }
    return catalog.create_table(identifier(ref), schema, location, spec, properties=properties)


def position_of(table: Table) -> SealedPosition | None:
    """How far the table has come in the ledger; None where nothing was registered yet."""
    found = table.properties
    if _FILE not in found or table.current_snapshot() is None:
        return None
    return SealedPosition(found[_LEDGER], int(found[_GENERATION]), int(found[_FILE]))


def totals_of(table: Table) -> Totals:
    """What the newest snapshot lists."""
    snapshot = table.current_snapshot()
    about: Mapping[str, str | None] = (
        snapshot.summary.additional_properties if snapshot and snapshot.summary else {}
    )

    def total(name: str) -> int:
        return int(about.get(name) or 0)

    return Totals(total("total-data-files"), total("total-records"), total("total-files-size"))


def listed(table: Table) -> dict[FileKey, DataFile]:
    """Every file that the newest snapshot lists."""
    snapshot = table.current_snapshot()
    if snapshot is None:
        return {}
    entries = (
        entry.data_file
        for manifest in snapshot.manifests(table.io)
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
    )
    return {(path_of(file.file_path), file.file_size_in_bytes): file for file in entries}


class _Commit(Transaction):  # type: ignore[misc]
    """A transaction whose metadata is computed once for each change of it.

    pyiceberg copies it, with all snapshots, at each of about twenty questions of a commit.
    """

    _known: tuple[object, object, TableMetadata] | None = None

    @property
    def table_metadata(self) -> TableMetadata:
        """The table's metadata, with what is staged."""
        base, staged = self._table.metadata, self._updates
        if self._known is None or self._known[0] is not base or self._known[1] is not staged:
            self._known = base, staged, super().table_metadata
        return self._known[2]


def commit(
    table: Table, step: Step, known: Mapping[FileKey, DataFile], keep_snapshots: int
) -> None:
    """Commit one step: files, columns and position together, as one snapshot.

    Args:
        table: The table.
        step: What it lists from here on.
        known: Its files, at least those that are removed.
        keep_snapshots: Older ones expire.

    Raises:
        SchemaDrift: A column has no place in Iceberg.
        FileNotFoundError: A file was replaced in the meantime.
        LedgerError: A file holds rows of several days.
    """
    anew = len(step.removed) == totals_of(table).files
    columns = [columns_of(file.path) for file in step.added]
    place = {
        _LEDGER: step.position.ledger,
        _GENERATION: str(step.position.generation),
        _FILE: str(step.position.file_id),
    }
    transaction = _Commit(table)
    _evolve(transaction, columns, anew)
    if step.added or step.removed:
        _snapshot(transaction, table.io, step, known, place)
    transaction.set_properties(place)
    expired = _expire(transaction, keep_snapshots)
    failpoint("catalog.before_commit")
    transaction.commit_transaction()
    failpoint("catalog.after_commit")
    _forget(table, expired)


def _evolve(transaction: Transaction, columns: Sequence[FileColumns], anew: bool) -> None:
    """Give the table the columns and types that some files need."""
    change = change_for(transaction.table_metadata.schema(), columns, anew)
    if not change:
        return
    with transaction.update_schema() as update:
        for name in change.replaced:
            update.delete_column((name,))
        for name, type_ in (change.replaced | change.added).items():
            update.add_column((name,), type_)
        for name, type_ in change.widened.items():
            update.update_column((name,), type_)
    transaction.set_properties(_of_schema(transaction.table_metadata.schema()))


def _of_schema(schema: Schema) -> dict[str, str]:
    """What depends on the columns: the files have no field ids, so that their names count."""
    return {
        TableProperties.DEFAULT_NAME_MAPPING: create_mapping_from_schema(schema).model_dump_json(),
        TableProperties.MANIFEST_TARGET_SIZE_BYTES: str(_BYTES_PER_COLUMN * len(schema.fields)),
    }


def _snapshot(
    transaction: Transaction,
    io: FileIO,
    step: Step,
    known: Mapping[FileKey, DataFile],
    place: dict[str, str],
) -> None:
    update = transaction.update_snapshot(snapshot_properties=place)
    with update.overwrite() if step.removed else update.merge_append() as producer:
        for key in step.removed:
            producer.delete_data_file(known[key])
        for file in step.added:
            producer.append_data_file(_described(transaction, io, file))


def _described(transaction: Transaction, io: FileIO, file: LakeFile) -> DataFile:
    """A public file as Iceberg lists it, from its footer."""
    try:
        data = parquet_file_to_data_file(io, transaction.table_metadata, address_of(file.path))
    except ValueError as error:
        raise LedgerError(
            f"{file.path} does not fit its Iceberg table ({error}).",
            "`ducklake verify` says whether the file is as it was written.",
        ) from None
    if (path_of(data.file_path), data.file_size_in_bytes) != key_of(file):
        raise FileNotFoundError(2, "replaced", str(file.path))
    return data


def _expire(transaction: Transaction, keep: int) -> list[Snapshot]:
    """Let the oldest snapshots go; gives them, with the oldest that stays behind them."""
    snapshots = sorted(transaction.table_metadata.snapshots, key=lambda s: s.sequence_number or 0)
    if len(snapshots) <= keep:
        return []
    gone = len(snapshots) - keep
    ids = [snapshot.snapshot_id for snapshot in snapshots[:gone]]
    ExpireSnapshots(transaction).by_ids(ids).commit()
    return snapshots[: gone + 1]


def _forget(table: Table, expired: Sequence[Snapshot]) -> None:
    """Delete the manifests and lists of expired snapshots; a kill in between leaves them there."""
    for old, following in pairwise(expired):
        with suppress(OSError):
            kept = {manifest.manifest_path for manifest in following.manifests(table.io)}
            for manifest in old.manifests(table.io):
                if manifest.manifest_path not in kept:
                    table.io.delete(manifest.manifest_path)
            table.io.delete(old.manifest_list)
