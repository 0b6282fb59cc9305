"""To PostgreSQL: schemas raw, staging and consume, each relation replaced in one transaction.

Readers see the old rows or the new ones, never a half-filled or a locked table; tables stay the
same objects, so views and grants on them survive. Raw is appended by commit number.
"""

from batcher.postgres.export import PostgresExport
from batcher.postgres.types import postgres_type

__all__ = ["PostgresExport", "postgres_type"]
