"""docker-compose.yml from up to down with a real engine: one story, in this order."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator

import pytest
import requests
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.compose.engine import an_engine
from tests.compose.images import ROOT, provide_images
from tests.compose.project import Project, wait_until

pytestmark = pytest.mark.timeout(2400)
CONSUME = ROOT / "dbt_techstore/models/consume"
MODELS = sorted(file.stem for file in CONSUME.glob("*.sql"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with an_engine() as engine:
        provide_images(engine)
        made = Project(engine, tmp_path_factory.mktemp("project"))
        try:
            yield made
        finally:
            made.make("compose-down")


def test_make_compose_demo_needs_no_setting_and_everything_gets_healthy(project: Project) -> None:
    project.make("compose-demo")
    project.wait_healthy()


def test_rows_of_all_eleven_sources_are_in_the_answers(project: Project) -> None:
    used = {
        name
        for folder in (
            CONSUME,
            CONSUME.with_name("intermediate"),
            CONSUME.parents[1] / "macros",
        )
        for file in folder.glob("*.sql")
        for name in re.findall(r"ref\('stg_(\w+)'\)", file.read_text())
    }
    assert len(used) == 11
    for schema, tables in (("raw", sorted(used)), ("consume", MODELS)):
        for table in tables:
            count = f"SELECT count(*) FROM {schema}.{table}"
            wait_until(lambda count=count: int(project.postgres(count) or 0) > 0, count)  # type: ignore[misc]


def test_no_password_can_be_seen_from_outside(project: Project) -> None:
    made = {
        project.shell(service, "for f in /run/ducklake/*/password; do cat $f; echo; done")
        for service in ("postgres", "mysql", "connect", "producers")
    }
    words = {word for text in made for word in text.split()}
    shown = str(project.everything())
    assert len(words) >= 5 and all(word not in shown for word in words)
    ask = "curl --silent http://127.0.0.1:8083/connectors/techstore-mysql/config"
    login = "--config /run/ducklake/connect/curl.conf"
    answer = json.loads(project.shell("connect", f"{ask} {login}"))
    assert answer["database.password"] == "${dir:/run/ducklake/mysql:password}"
    refused = project.shell("connect", f"{ask} --output /dev/null --write-out '%{{http_code}}'")
    assert refused == "401"


def test_each_service_has_the_secrets_that_it_needs_and_no_others(project: Project) -> None:
    wanted = {
        "connect": {"mysql", "connect"},
        "mysql": {"mysql", "mysql_root"},
        "postgres": {"postgres", "postgres_admin"},
        "producers": {"mysql", "sftp", "connect"},
        "batch": {"postgres"},
        "monitor": {"metrics"},
        "simulator": {"mysql", "sftp"},
        "dashboard": {"mysql", "connect", "dashboard"},
        **{key: set() for key in ("kafka", "sftp", "api", "consumer", "compactor", "live")},
    }
    for service, secrets in wanted.items():
        for container in project.inspect(*project.containers(service)):
            there = {mount["Destination"] for mount in container["Mounts"]}
            held = {at.rpartition("/")[2] for at in there if at.startswith("/run/")}
            assert held - {"converter"} == secrets, service


def test_the_role_in_postgres_owns_its_schemas_and_nothing_else(project: Project) -> None:
    rights = "SELECT rolsuper OR rolcreaterole OR rolcreatedb FROM pg_roles WHERE rolname = user"
    assert project.postgres(rights) == "f"
    owned = "SELECT string_agg(nspname, ',' ORDER BY nspname) FROM pg_namespace"
    owned += " WHERE nspowner = (SELECT oid FROM pg_roles WHERE rolname = user)"
    assert project.postgres(owned) == "consume,ducklake,raw,staging"


def test_nobody_reaches_whom_it_has_nothing_to_say_to(project: Project) -> None:
    knock = "exec 3<>/dev/tcp/{}"
    for service, there, away in (
        ("consumer", "kafka/9092", ("mysql/3306", "connect/8083", "postgres/5432", "sftp/22")),
        ("batch", "postgres/5432", ("mysql/3306", "connect/8083", "sftp/22")),
        ("simulator", "mysql/3306", ("kafka/9092", "connect/8083", "postgres/5432")),
    ):
        for address, reached in ((there, True), *((at, False) for at in away)):
            words = f"timeout 5 bash -c '{knock.format(address)}' 2>/dev/null && echo reached"
            said = project.shell(service, words, check=False)
            assert (said == "reached") == reached, (service, address)


def test_our_roles_are_nobody_on_a_file_system_that_they_cannot_write(project: Project) -> None:
    roles = ("producers", "consumer", "compactor", "batch", "live", "monitor", "dashboard")
    for service in (*roles, "simulator", "api"):
        for container in project.inspect(*project.containers(service)):
            assert container["HostConfig"]["ReadonlyRootfs"]
            assert container["Config"]["User"] == "10001:10001"
    assert project.shell("consumer", "id -u") == "10001"


def test_every_service_is_bounded_watched_and_published_on_loopback_alone(
    project: Project,
) -> None:
    for container in project.everything():
        name = container["Name"]
        assert container["HostConfig"]["Memory"] > 0, name
        assert container["Config"].get("Healthcheck"), name
        assert container["HostConfig"]["CapDrop"] == ["ALL"], name
        assert "no-new-privileges:true" in container["HostConfig"]["SecurityOpt"], name
        for bindings in (container["HostConfig"]["PortBindings"] or {}).values():
            assert {binding["HostIp"] for binding in bindings} == {"127.0.0.1"}, name


def test_what_is_optional_comes_by_its_profile_alone(project: Project) -> None:
    optional = {"kafka-ui": {"kafka-ui"}, "observability": {"prometheus", "grafana"}}
    for profile, services in optional.items():
        assert not [name for name in services if project.containers(name)]
        assert services <= {*project.compose("--profile", profile, "config", "--services").split()}


def test_metrics_are_given_to_who_knows_the_token_alone(project: Project) -> None:
    ask = (
        'python -c \'import os, requests; print(requests.get("http://monitor:18300/metrics",'
        ' headers={"Authorization": "Bearer " + os.environ["TOKEN"]}).status_code)\''
    )
    known = 'TOKEN="$(cat /run/ducklake/metrics/password)"'
    status = project.shell("monitor", f"{known} {ask}")
    assert status == "200", project.compose("logs", "--tail", "60", "monitor")
    assert project.shell("monitor", f"TOKEN=wrong {ask}") == "401"


def test_the_page_answers_whoever_has_its_token_and_knows_all_roles(project: Project) -> None:
    address = f"http://127.0.0.1:{project.ports['DASHBOARD_PORT']}"
    token = project.shell("dashboard", "cat /run/ducklake/dashboard/password")

    def asked(path: str, who: str) -> requests.Response:
        bearer = {"authorization": f"Bearer {who}"}
        return requests.get(f"{address}/api/{path}", headers=bearer, timeout=30)

    assert asked("state", "x" * 24).status_code == 401
    tables = asked("trust", token).json()["tables"]
    assert {one["table"] for one in tables} >= {"mysql.orders", "sftp.inventory"}
    assert all("does not run" not in one["fresh"]["reason"] for one in tables), "all roles are seen"


def test_live_figures_are_in_their_topic(project: Project) -> None:
    reader = Consumer(
        {"bootstrap.servers": f"127.0.0.1:{project.ports['KAFKA_PORT']}", "group.id": "eyes"}
    )
    try:
        place = TopicPartition("live.kpis", 0)
        wait_until(lambda: reader.get_watermark_offsets(place, 10)[1] > 0, "there are figures")
    finally:
        reader.close()


def test_a_changed_model_and_a_new_table_need_no_new_image(project: Project) -> None:
    """Written as editors write: a new file in the place of the old one."""

    def edit(name: str, old: str, new: str) -> None:
        file = project.root / name
        text = file.read_text()
        assert text.count(old) == 1, name
        fresh = file.with_suffix(".new")
        fresh.write_text(text.replace(old, new))
        fresh.replace(file)

    before = {c["Id"]: c["Image"] for c in project.everything()}
    edit(
        "dbt_techstore/models/consume/daily_sales.sql",
        "        calendar.sales_date,\n",
        "        calendar.sales_date,\n        42 as answer,\n",
    )
    edit(
        "dbt_techstore/models/consume/_schema.yml",
        "      - name: sales_date\n",
        "      - name: answer\n        data_type: integer\n        description: The answer.\n"
        "      - name: sales_date\n",
    )
    edit(
        "ducklake.yml",
        "      inventory:\n",
        "      stock:\n        {file: inventory.csv, key: [sku, warehouse],"
        ' options: {delimiter: ";", encoding: utf-8-sig}}\n      inventory:\n',
    )
    project.compose("restart", "producers", "consumer", "batch")
    reader = Consumer(
        {"bootstrap.servers": f"127.0.0.1:{project.ports['KAFKA_PORT']}", "group.id": "eyes"}
    )
    try:
        known = reader.list_topics
        wait_until(lambda: "sftp.stock" in known(timeout=10).topics, "the new table's topic")
        place = TopicPartition("sftp.stock", 0)
        wait_until(lambda: reader.get_watermark_offsets(place, 10)[1] > 0, "the new table's rows")
    finally:
        reader.close()
    answer = "SELECT DISTINCT answer FROM consume.daily_sales"
    wait_until(lambda: project.postgres(answer) == "42", answer)
    assert {c["Id"]: c["Image"] for c in project.everything()} == before


def test_a_killed_consumer_comes_back_by_itself(project: Project) -> None:
    [consumer] = project.inspect(*project.containers("consumer"))
    # `docker kill` would be a wish, which the restart policy respects
    os.kill(consumer["State"]["Pid"], signal.SIGKILL)

    def back() -> bool:
        [now] = project.inspect(consumer["Id"])
        return bool(now["RestartCount"] == 1 and now["State"]["Running"])

    wait_until(back, "the consumer is started again")
    project.wait_healthy()


def test_three_consumers_share_the_topics(project: Project) -> None:
    project.compose("up", "--detach", "--no-build", "--no-recreate", "--scale", "consumer=3")
    admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{project.ports['KAFKA_PORT']}"})
    group = "ducklake.techstore.lake"

    def members() -> int:
        described = admin.describe_consumer_groups([group])[group].result(30)
        return sum(bool(m.assignment.topic_partitions) for m in described.members)

    wait_until(lambda: members() == 3, "all three have partitions")
    project.wait_healthy()


def test_the_broker_may_be_restarted(project: Project) -> None:
    project.compose("restart", "kafka")
    project.wait_healthy()


def test_the_lake_is_exact_and_postgres_has_what_mysql_has(project: Project) -> None:
    project.compose("stop", "simulator")
    orders = project.mysql("SELECT count(*) FROM orders")
    assert int(orders) > 0
    there = "SELECT count(*) FROM staging.stg_orders"
    wait_until(lambda: project.postgres(there) == orders, f"{orders} orders in PostgreSQL")
    wait_until(project.exact, "`ducklake verify` says exact")


def test_a_stop_is_heard_within_its_grace_period(project: Project) -> None:
    began = time.monotonic()
    roles = ("producers", "consumer", "compactor", "batch", "live", "monitor", "dashboard")
    project.compose("stop", *roles)
    print(f"stopped in {time.monotonic() - began:.0f} s")
    for service in roles:
        for container in project.inspect(*project.containers(service)):
            # 137 would mean that it had to be killed
            assert container["State"]["ExitCode"] == 0, service


def test_make_compose_down_leaves_nothing(project: Project) -> None:
    assert project.left_behind()
    project.make("compose-down")
    assert project.left_behind() == []
