"""The pages on connectors and models are followed word for word, against the real services.

The followed project runs on somebody's own services: each address stands in its `ducklake.yml`, and
nothing else was changed for that.
"""

from __future__ import annotations

import psycopg2
import pytest

from lake.config import Config, load_config
from producers.registry import embedded_services
from tests.integration.handbook import FENCE, ROOT, Handbook, make_handbook

pytestmark = pytest.mark.stack

NAME = "handbook"


@pytest.fixture(scope="module")
def handbook(stack_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Handbook:
    return make_handbook(stack_config, tmp_path_factory.mktemp("a handbook"), NAME, NAME)


@pytest.fixture(scope="module")
def connectors(handbook: Handbook) -> list[str]:
    return handbook.follow("docs/CONNECTORS.md")


@pytest.fixture(scope="module")
def models(handbook: Handbook, connectors: list[str], stack_config: Config) -> list[str]:
    # The page starts after the demo's first pass: its sources are in Kafka.
    handbook.run(f".venv/bin/ducklake produce --once --config '{stack_config.path}'")
    handbook.run(".venv/bin/ducklake consume --once")
    return handbook.follow("docs/MODELS.md")


def test_nothing_of_the_followed_project_is_embedded(
    handbook: Handbook, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in handbook.environment.items():
        monkeypatch.setenv(name, value)
    config = load_config(handbook.folder / "ducklake.yml")
    assert embedded_services(config) == ()
    assert not config.state_file.exists()


def test_the_page_on_connectors_brings_a_whole_table(
    handbook: Handbook, connectors: list[str]
) -> None:
    assert "ducklake.yml is valid: 4 sources, 12 tables" in connectors[0]
    assert "dolar.dolar_casas: 7 records sent" in connectors[0]
    assert "blue" in connectors[0]
    found = handbook.files(
        "dolar/dolar_casas",
        "SELECT count(*), count(DISTINCT casa), min(typeof(venta)), count(venta),"
        ' min(typeof("fechaActualizacion")), count(_fetched_at) FROM {raw}',
    )
    assert found == [(7, 7, "DECIMAL(12,2)", 7, "TIMESTAMP WITH TIME ZONE", 7)]


def test_an_unchanged_table_is_not_sent_again(handbook: Handbook, connectors: list[str]) -> None:
    assert "records sent" not in handbook.run(".venv/bin/ducklake produce dolar --once")


def test_the_page_on_connectors_brings_what_is_new(
    handbook: Handbook, connectors: list[str]
) -> None:
    assert "counter.visits: 2 records sent" in connectors[1]
    file = handbook.folder / "visits" / "monday.jsonl"
    with file.open("a") as lines:
        lines.write('{"visit_id": 4, "entered_at": "2026-03-02T10:05:00", "people": 3}\n')
    assert "counter.visits: 1 records sent" in handbook.run(
        ".venv/bin/ducklake produce counter --once && .venv/bin/ducklake consume --once"
    )
    found = handbook.files(
        "counter/visits",
        "SELECT visit_id, people, typeof(entered_at), _file FROM {raw} ORDER BY visit_id",
    )
    assert found == [
        (1, 2, "TIMESTAMP", "monday.jsonl"),
        (2, 1, "TIMESTAMP", "monday.jsonl"),
        (4, 3, "TIMESTAMP", "monday.jsonl"),
    ]


def test_the_page_on_models_builds_publishes_and_exports(
    handbook: Handbook, models: list[str], stack_config: Config
) -> None:
    provinces = handbook.lake("SELECT count(*), sum(orders) FROM consume.sales_by_province")
    orders = handbook.lake("SELECT count(*) FROM staging.stg_orders WHERE NOT is_cancelled")
    assert provinces[0][1] == orders[0][0]
    assert handbook.lake("SELECT count(*), count(venta) FROM staging.stg_dolar_casas") == [(7, 7)]
    at = stack_config.endpoints().postgres
    with (
        psycopg2.connect(
            host=at.host, port=at.port, user=at.user, password=at.password, dbname=NAME
        ) as database,
        database.cursor() as cursor,
    ):
        cursor.execute("SELECT count(*) FROM consume.sales_by_province")
        assert cursor.fetchone() == (provinces[0][0],)
        cursor.execute("SELECT count(*) FROM staging.stg_dolar_casas")
        assert cursor.fetchone() == (7,)
    database.close()


def test_the_page_on_models_runs_its_unit_test(models: list[str]) -> None:
    assert "cancelled_orders_count_for_no_province" in models[1]
    assert "ERROR=0" in models[1]


def test_a_rejected_line_is_a_dead_letter(handbook: Handbook, models: list[str]) -> None:
    dead_letters = handbook.lake(
        "SELECT reason, value FROM raw.dead_letters WHERE source_table = 'counter.visits'"
    )
    assert dead_letters == [
        ("file monday.jsonl, byte 132: not a JSON object", b'{"visit_id": 3, "entered_at":\n')
    ]


def test_the_readme_opens_the_results(handbook: Handbook, models: list[str]) -> None:
    blocks = [
        block["text"]
        for block in FENCE.finditer((ROOT / "README.md").read_text(encoding="utf-8"))
        if block["language"] == "sh" and block["text"].startswith(".venv/bin/python")
    ]
    assert len(blocks) == 2
    assert "revenue_ars" in handbook.run(blocks[0])
    assert "_op" in handbook.run(blocks[1])
