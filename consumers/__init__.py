"""Kafka to the lake: micro-batches, the commit, the compactor."""
