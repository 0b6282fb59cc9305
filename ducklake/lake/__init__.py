"""The raw lake: paths, files, schemas and the ledger that says what exists."""
