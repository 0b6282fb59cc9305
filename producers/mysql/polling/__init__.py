"""MySQL without Kafka Connect: tables are polled by a watermark column and their key."""
