"""The clock: raw views, dbt, publication and the export to PostgreSQL."""
