"""What Dagster shows of a lake; nothing is read before `ducklake.dagster_pipeline` asks for it."""
