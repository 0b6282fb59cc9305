"""The processes of `ducklake run`, kept alive."""
