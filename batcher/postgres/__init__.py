"""To PostgreSQL: the schemas raw, staging and consume, of which only what changed is written.

Raw is appended on its own as rows are committed in the ledger; the models of a cycle are written
in one transaction. Readers see the old rows or the new ones, never a half-filled table, and wait
for nobody; tables stay the same objects, so views, grants, indexes and comments on them survive.
"""

from batcher.postgres.export import PostgresExport
from batcher.postgres.model_rows import ModelRows, RowChanges
from batcher.postgres.result import ExportResult
from batcher.postgres.types import postgres_type

__all__ = ["ExportResult", "ModelRows", "PostgresExport", "RowChanges", "postgres_type"]
