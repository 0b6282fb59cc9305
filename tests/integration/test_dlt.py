"""`type: dlt` on the real services: dlt's SQL database source reads MySQL, killed anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from lake.config import Config
from tests.integration.producers_lab import make_lab, shop_server, sql, unique

pytestmark = pytest.mark.stack
KILLS = ("producer.after_begin", "producer.after_rows", "producer.after_flush")


def test_dlt_s_sql_source_arrives_once_killed_anywhere(
    tmp_path: Path, stack_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, name = shop_server(stack_config), unique("dlt_")
    sql(
        shop,
        f"CREATE TABLE {name} (id INT PRIMARY KEY, price DECIMAL(20,4), at DATETIME(6),"
        " about JSON, big BIGINT UNSIGNED)",
        f"INSERT INTO {name} WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n"
        " WHERE i < 300) SELECT i, 12345678901234.5678, '2026-01-01' + INTERVAL i DIV 7 SECOND,"
        """ '{"x": [1, 2]}', 18446744073709551615 FROM n""",
    )
    try:
        address = f"mysql+pymysql://{shop.user}:{shop.plain_password}@{shop.host}:{shop.port}"
        monkeypatch.setenv("DLT_SHOP_URL", f"{address}/{shop.database}")
        spec = {
            "type": "dlt",
            "options": {
                "source": "dlt.sources.sql_database:sql_database",
                "arguments": {"credentials": "${DLT_SHOP_URL}", "table_names": [name]},
            },
            "tables": {"things": {"options": {"resource": name, "incremental": {"cursor": "at"}}}},
        }
        lab = make_lab(tmp_path, stack_config, spec)
        # as the file that was made has the address itself
        lab.environment["DLT_SHOP_URL"] = f"{address}/{shop.database}"
        for failpoint in KILLS:
            assert lab.produce_once(failpoint).returncode != 0
        assert lab.produce_once("producer.after_commit").returncode != 0
        sql(shop, f"INSERT INTO {name} VALUES (301, 1, '2026-01-01 00:00:42', NULL, 0)")
        done = lab.produce_once()
        assert done.returncode == 0, done.stderr
        assert lab.produce_once().returncode == 0
        rows = lab.rows("things")
        assert sorted(seen.row["id"] for seen in rows) == list(range(1, 302))
        first = next(seen.row for seen in rows if seen.row["id"] == 1)
        assert first == {
            "id": 1,
            "price": "12345678901234.5678",
            "at": "2026-01-01T00:00:00",
            "about": {"x": [1, 2]},
            "big": "18446744073709551615",
        }
        assert rows[0].key is not None
        assert shop.plain_password not in done.stderr
    finally:
        sql(shop, f"DROP TABLE {name}")
