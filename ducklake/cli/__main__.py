"""`python -m ducklake.cli`, as the supervisor of `ducklake run` calls it."""

from ducklake.cli.app import main

main()
