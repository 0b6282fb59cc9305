"""Outside world to Kafka: one connector class per kind of source."""
