"""The lake's metrics, in Prometheus' format: a face of `ducklake.monitoring`."""
