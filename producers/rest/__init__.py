"""`type: rest`: APIs that answer JSON, described in `ducklake.yml` alone."""
