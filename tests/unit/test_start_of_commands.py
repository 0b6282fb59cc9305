"""The command line is there at once: what one command needs is loaded by it, and by no other."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = frozenset(
    {
        *("confluent_kafka", "cryptography", "dbt", "duckdb", "fastapi", "lxml", "numpy"),
        *("openpyxl", "pandas", "paramiko", "prometheus_client", "psycopg2", "pyarrow", "pymysql"),
    }
)
"""Libraries that take a tenth of a second and more to load."""


@pytest.mark.parametrize("words", ([], ["--help"], ["service", "--help"], ["config", "schema"]))
def test_a_command_loads_no_library_that_it_does_not_need(words: list[str]) -> None:
    code = (
        "import sys\n"
        "from ducklake.cli import main\n"
        f"sys.argv = ['ducklake', *{words!r}]\n"
        "try:\n    main()\n"
        "finally:\n    print(*sys.modules, sep='\\n', file=sys.stderr)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    loaded = set(ran.stderr.splitlines())
    assert "ducklake.cli.app" in loaded
    assert not loaded & HEAVY
