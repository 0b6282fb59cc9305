"""MySQL changes, through Debezium on Kafka Connect."""
