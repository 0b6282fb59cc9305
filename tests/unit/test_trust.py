"""One light per table and model: the worst of fresh, complete and tested (promise 11)."""

from __future__ import annotations

from pathlib import Path

import pytest

from batcher.failures import Failure
from ducklake.monitoring.light import COLOURS, Light, worst
from ducklake.monitoring.lineage import Lineage
from ducklake.monitoring.trust import ModelTrust, TableTrust, TrustView
from ducklake.reconciliation.result import DIFFERENT, EQUAL, FAILED, TableResult
from ducklake.supervision.condition import Condition, Problem, RoleView
from ducklake.supervision.freshness import CURRENT, STALLED, HopFreshness, TableFreshness
from lake.config import Config, load_config
from lake.formats import RunSummary
from lake.lags import HOPS
from lake.ledger.entries import Run

SETTINGS = """\
name: trust
connections: {db: {host: 127.0.0.1, user: u, password: p, database: d}}
sources:
  mysql: {type: mysql_cdc, connection: db, tables: {orders: {key: [id]}}}
  shop: {type: plain, tables: {rates: {}}}
"""
LINEAGE = Lineage(
    {
        "staging.stg_orders": ("raw.orders",),
        "staging.stg_rates": ("raw.rates",),
        "consume.sales": ("staging.stg_orders", "staging.stg_rates"),
    }
)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "ducklake.yml").write_text(SETTINGS)
    return load_config(tmp_path / "ducklake.yml")


def judged(
    config: Config,
    *,
    roles: tuple[str, ...] = ("produce", "consume", "batch"),
    problems: tuple[Problem, ...] = (),
    compared: str = EQUAL,
    stalled: str = "",
    held_back: dict[str, str] | None = None,
    failing: tuple[Failure, ...] = (),
    dead: int = 0,
) -> tuple[dict[str, TableTrust], dict[str, ModelTrust]]:
    views = tuple(RoleView(role, "healthy", 1, 0.0, 0, "", "", {}) for role in roles)
    result = TableResult("mysql.orders", compared, 1.0, 5, 4, reason="no answer")
    results = (result,) if compared else ()
    hops = {
        topic: {
            hop: HopFreshness(STALLED if topic == stalled and hop == "raw" else CURRENT)
            for hop in HOPS
        }
        for topic in ("mysql.orders", "shop.rates")
    }
    run = Run(1, 0.0, 1.0, 0, 5, RunSummary(5, 3, 3, 0, 0, held_back or {}))
    view = TrustView(
        config,
        Condition(views, problems, (), results),
        [TableFreshness(topic, found) for topic, found in hops.items()],
        run,
        failing,
        LINEAGE,
        {"mysql.orders": dead} if dead else {},
    )
    return {t.table: t for t in view.tables()}, {m.model: m for m in view.models()}


def failure(model: str, status: str = "fail") -> Failure:
    return Failure("unique_id", (model,), status, "Got 2 results", "", (), (), 0, 0, 5)


def test_everything_that_is_well_is_good(config: Config) -> None:
    tables, models = judged(config)
    assert {t.light.colour for t in tables.values()} == {"good"}
    assert {m.light.colour for m in models.values()} == {"good"}
    assert tables["mysql.orders"].source_rows == 5


@pytest.mark.parametrize(
    ("given", "colour", "part"),
    [
        ({"stalled": "mysql.orders"}, "critical", "fresh"),
        ({"compared": DIFFERENT}, "critical", "complete"),
        ({"compared": FAILED}, "warning", "complete"),
        ({"compared": ""}, "unknown", "complete"),
        ({"dead": 3}, "warning", "complete"),
        ({"held_back": {"staging.stg_orders": "a test"}}, "critical", "tested"),
        ({"failing": (failure("stg_orders"),)}, "critical", "tested"),
        ({"failing": (failure("staging.stg_orders", "warn"),)}, "warning", "tested"),
        ({"roles": ("consume", "batch")}, "unknown", "fresh"),
        (
            {"problems": (Problem("source mysql", "stopped", 0.0, "Gone.", "Call."),)},
            "critical",
            "fresh",
        ),
    ],
)
def test_one_thing_that_is_not_well_is_the_light(
    config: Config, given: dict[str, object], colour: str, part: str
) -> None:
    tables, models = judged(config, **given)  # type: ignore[arg-type]
    table = tables["mysql.orders"]
    assert table.light.colour == getattr(table, part).colour == colour
    others = {"fresh", "complete", "tested"} - {part}
    assert {getattr(table, other).colour for other in others} == {"good"}
    model = models["consume.sales"]
    if part != "tested":
        assert getattr(model, part).colour == colour, "what comes from it is as good as it is"
        assert "mysql.orders" in getattr(model, part).reason
    if "roles" not in given:
        assert tables["shop.rates"].light.colour == "good", "nobody else is blamed"
        assert models["staging.stg_rates"].light.colour == "good"


def test_a_bad_light_says_how_to_go_on(config: Config) -> None:
    tables, _ = judged(config, compared=DIFFERENT)
    assert "--repair" in tables["mysql.orders"].light.remedy


def test_the_worst_light_wins_and_the_first_of_equals() -> None:
    lights = [Light(colour, str(number)) for number, colour in enumerate((*COLOURS, *COLOURS))]
    assert worst(lights) == Light("critical", "3")
    assert worst(()) == Light("good")
