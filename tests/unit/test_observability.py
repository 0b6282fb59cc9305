"""Dashboards and alert rules ask for what the product exports, and a real Prometheus takes them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import requests
import yaml

from ducklake.metrics.exposition import DEFINITIONS
from ducklake.supervision.freshness import STATES
from lake.config import load_config
from lake.errors import ConfigError
from lake.lags import HOPS
from lake.processes.instruments import REGISTRY
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docker" / "observability"
DASHBOARDS = sorted((FOLDER / "grafana" / "dashboards").glob("*.json"))
RULES = FOLDER / "prometheus" / "alerts.yml"
SETTINGS = """\
name: observed
services: {kafka: {bootstrap_servers: "127.0.0.1:9"}, postgres: {host: 127.0.0.1}}
sources: {shop: {type: kafka, tables: {orders: {key: [id]}}}}
metrics: {token: "${METRICS_TOKEN}", port: PORT}
"""
TOKEN = "0123456789abcdef0123"
OF_PROMETHEUS = {"job", "instance"}
VALUES = {
    "state": set(STATES),
    "hop": set(HOPS),
    "aspect": {"fresh", "complete", "tested", "light"},
    "quantile": {"0.5", "0.95"},
}
START_SECONDS = 60.0


def exported() -> dict[str, set[str]]:
    """Every series that the product exports, with its labels."""
    found = {one.name: {*one.labels} for one in DEFINITIONS}
    found["up"] = set()
    for family in REGISTRY.collect():
        collectors = REGISTRY._names_to_collectors
        collector = collectors.get(family.name)  # none: of the process as a whole
        labels = {*getattr(collector, "_labelnames", ()), "role"}
        if family.type == "histogram":
            found |= {f"{family.name}_{end}": labels for end in ("sum", "count")}
            found[f"{family.name}_bucket"] = labels | {"le"}
        else:
            name = f"{family.name}_total" if family.type == "counter" else family.name
            found[name] = labels
    return found


@dataclass(frozen=True)
class Query:
    """A query, and the labels that its texts name."""

    place: str
    text: str
    named: frozenset[str]

    def plain(self) -> str:
        """As Grafana sends it, for all tables."""
        return self.text.replace("$table", ".*")


def queries() -> list[Query]:
    found = []
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            for target in panel.get("targets", ()):
                named = frozenset(re.findall(r"\{\{\s*(\w+)\s*\}\}", target["legendFormat"]))
                found.append(Query(f"{path.stem}, {panel['title']}", target["expr"], named))
    for rule in rules():
        text = " ".join(rule["annotations"].values())
        named = frozenset(re.findall(r"\$labels\.(\w+)", text))
        found.append(Query(f"rule {rule['alert']}", rule["expr"], named))
    return found


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


QUERIES = queries()


def parts(query: str) -> list[Any]:
    """Every part of a query's tree."""
    found: list[Any] = []

    def see(part: Any) -> None:
        found.append(part)

    promql_parser.walk(promql_parser.parse(query), see)
    return found


@pytest.mark.parametrize("query", QUERIES, ids=lambda q: q.place)
def test_a_query_asks_for_metrics_and_labels_that_the_product_exports(query: Query) -> None:
    known, seen = exported(), []
    for part in parts(query.plain()):
        selector = getattr(part, "vector_selector", part)
        if not isinstance(selector, promql_parser.VectorSelector):
            continue
        assert selector.name in known, query.text
        labels = known[selector.name] | OF_PROMETHEUS
        seen.append(labels)
        for matcher in selector.matchers.matchers:
            assert matcher.name in labels, query.text
            if matcher.name in VALUES:
                assert {*matcher.value.split("|")} <= VALUES[matcher.name], query.text
    assert seen, "it asks for nothing"
    for part in parts(query.plain()):
        if isinstance(part, promql_parser.AggregateExpr) and part.modifier is not None:
            for label in part.modifier.labels:
                assert any(label in labels for labels in seen), query.text
    for label in query.named:
        assert any(label in labels for labels in seen), query.text


def test_a_query_for_what_is_not_there_is_found() -> None:
    for text in ("ducklake_no_such", 'ducklake_role_up{table="x"}', "sum by (nope) (up)"):
        with pytest.raises(AssertionError):
            test_a_query_asks_for_metrics_and_labels_that_the_product_exports(
                Query("", text, frozenset())
            )


def test_every_metric_of_the_lake_is_on_a_dashboard() -> None:
    asked = " ".join(query.text for query in QUERIES)
    seldom = {"ducklake_info", "ducklake_flushed_bytes_total", "ducklake_sealed_files_total"}
    seldom |= {"ducklake_last_cycle_timestamp_seconds", "ducklake_last_cycle_seconds"}
    seldom |= {"ducklake_look_seconds"}
    assert not {d.name for d in DEFINITIONS if d.name not in asked} - seldom


def test_dashboards_have_their_own_ids_and_the_provisioned_datasource() -> None:
    source = yaml.safe_load(
        (FOLDER / "grafana/provisioning/datasources/prometheus.yml").read_text()
    )
    [uid] = [one["uid"] for one in source["datasources"]]
    ids = []
    for path in DASHBOARDS:
        board = json.loads(path.read_text(encoding="utf-8"))
        ids.append(board["uid"])
        panels = [panel["id"] for panel in board["panels"]]
        assert len({*panels}) == len(panels)
        used = {panel["datasource"]["uid"] for panel in board["panels"] if "datasource" in panel}
        assert used == {uid}
    assert len({*ids}) == len(ids) == 2


# A real Prometheus -------------------------------------------------------------------------------

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="no Prometheus: apt-get install prometheus"
)
FIRING = """\
rule_files: [RULES]
evaluation_interval: 15s
tests:
  - interval: 15s
    input_series:
      - {series: 'up{job="ducklake"}', values: '0x40'}
      - {series: 'ducklake_role_up{role="consume"}', values: '1x8 0x40'}
      - {series: 'ducklake_role_up{role="batch"}', values: '1x60'}
      - {series: 'ducklake_dead_letters{table="shop.orders"}', values: '7x60'}
      - {series: 'ducklake_dead_letters{table="shop.items"}', values: '0x60'}
      - {series: 'ducklake_reconciliation_differences{table="shop.orders"}', values: '2x60'}
      - {series: 'ducklake_disk_free_bytes', values: '1000000x120'}
    alert_rule_test:
      - {eval_time: 5m, alertname: DuckLakeNobodyLooks, exp_alerts: [
          {exp_labels: {severity: critical, job: ducklake}, exp_annotations: ANY}]}
      - {eval_time: 3m, alertname: DuckLakeRoleDown, exp_alerts: []}
      - {eval_time: 6m, alertname: DuckLakeRoleDown, exp_alerts: [
          {exp_labels: {severity: critical, role: consume}, exp_annotations: ANY}]}
      - {eval_time: 6m, alertname: DuckLakeDeadLetters, exp_alerts: [
          {exp_labels: {severity: warning, table: shop.orders}, exp_annotations: ANY}]}
      - {eval_time: 1m, alertname: DuckLakeDiffers, exp_alerts: [
          {exp_labels: {severity: critical, table: shop.orders}, exp_annotations: ANY}]}
      - {eval_time: 20m, alertname: DuckLakeDiskFills, exp_alerts: [
          {exp_labels: {severity: critical}, exp_annotations: ANY}]}
"""


@needs_prometheus
def test_rules_fire_as_they_should(tmp_path: Path) -> None:
    told = {}
    for rule in rules():
        said = rule["annotations"]
        for name, value in (("role", "consume"), ("table", "shop.orders")):
            said = {k: v.replace(f"{{{{ $labels.{name} }}}}", value) for k, v in said.items()}
        count = {"DuckLakeDeadLetters": "7", "DuckLakeDiffers": "2"}.get(rule["alert"], "")
        told[rule["alert"]] = {k: v.replace("{{ $value }}", count) for k, v in said.items()}
    lines = FIRING.replace("RULES", str(RULES)).splitlines()
    name = ""
    for number, line in enumerate(lines):
        if found := re.search(r"alertname: (\w+)", line):
            name = found[1]
        lines[number] = line.replace("ANY", json.dumps(told.get(name, {})))
    file = tmp_path / "firing.yml"
    file.write_text("\n".join(lines))
    done = subprocess.run(
        ["promtool", "test", "rules", str(file)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@dataclass(frozen=True)
class Watched:
    """A monitor and the Prometheus that scrapes it."""

    metrics: str
    prometheus: str

    def ask(self, path: str, **parameters: str) -> Any:
        answer = requests.get(f"{self.prometheus}/api/v1/{path}", params=parameters, timeout=10)
        assert answer.ok, answer.text
        return answer.json()["data"]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("observed")
    ours, theirs = free_port(), free_port()
    (folder / "ducklake.yml").write_text(SETTINGS.replace("PORT", str(ours)))
    (folder / "token").write_text(TOKEN)
    shutil.copy(RULES, folder)
    settings = (FOLDER / "prometheus" / "prometheus.yml").read_text()
    for old, new in (
        ("/run/ducklake/metrics/password", "token"),
        ("monitor:18300", f"127.0.0.1:{ours}"),
        ("127.0.0.1:9090", f"127.0.0.1:{theirs}"),
        ("15s", "1s"),
    ):
        assert old in settings
        settings = settings.replace(old, new)
    (folder / "prometheus.yml").write_text(settings)
    commands: tuple[list[str | Path], ...] = (
        [sys.executable, "-m", "ducklake.cli", "monitor", "--config", folder / "ducklake.yml"],
        [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{theirs}",
        ],
    )
    with (folder / "output").open("w") as output:
        running = [
            subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                cwd=folder,
                env={**os.environ, "METRICS_TOKEN": TOKEN},
            )
            for command in commands
        ]
        try:
            at = Watched(f"http://127.0.0.1:{ours}/metrics", f"http://127.0.0.1:{theirs}")
            await_scrape(at, folder / "output")
            yield at
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait(30)
    assert TOKEN not in (folder / "output").read_text()


def await_scrape(at: Watched, output: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            if at.ask("query", query='up{job="ducklake"} == 1 and on() ducklake_info')["result"]:
                return
        except (requests.RequestException, AssertionError):
            pass
        time.sleep(0.2)
    raise AssertionError(output.read_text()[-3000:])


@needs_prometheus
def test_metrics_are_given_to_who_knows_the_token_alone(watched: Watched) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
        answer = requests.get(watched.metrics, headers=headers, timeout=10)
        assert answer.status_code == 401 and "ducklake_info" not in answer.text
    known = requests.get(watched.metrics, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10)
    assert known.ok and "ducklake_info" in known.text


@needs_prometheus
def test_prometheus_scrapes_the_monitor_and_evaluates_every_rule(watched: Watched) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        found = [r for g in watched.ask("rules")["groups"] for r in g["rules"]]
        if all(rule["health"] != "unknown" for rule in found) or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    assert {r["name"]: (r["health"], r.get("lastError")) for r in found} == {
        rule["alert"]: ("ok", None) for rule in rules()
    }


@needs_prometheus
@pytest.mark.parametrize("query", QUERIES, ids=lambda q: q.place)
def test_prometheus_takes_every_query(watched: Watched, query: Query) -> None:
    assert watched.ask("query", query=query.plain())["resultType"] in ("vector", "scalar")


@needs_prometheus
def test_what_a_dashboard_shows_first_has_values(watched: Watched) -> None:
    [board] = [path for path in DASHBOARDS if path.stem == "lake"]
    for panel in json.loads(board.read_text())["panels"][1:7]:
        for target in panel["targets"]:
            assert watched.ask("query", query=target["expr"])["result"], panel["title"]


def test_a_token_that_is_short_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ducklake.yml"
    path.write_text(SETTINGS.replace("PORT", "off"))
    monkeypatch.setenv("METRICS_TOKEN", "short")
    with pytest.raises(ConfigError, match=r"metrics\.token: it has fewer than 16") as caught:
        load_config(path)
    assert "short" not in str(caught.value)
    monkeypatch.setenv("METRICS_TOKEN", TOKEN)
    path.write_text(path.read_text().replace("metrics: {", "metrics: {host: 0.0.0.0, "))
    assert load_config(path).settings.metrics.host == "0.0.0.0"
    assert TOKEN not in repr(load_config(path))
