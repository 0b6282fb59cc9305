"""The ground that all rooms stand on: configuration, errors, records, storage and ledger."""
