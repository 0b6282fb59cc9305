"""docker-compose.yml from up to down with a real engine: one story, in this order."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator

import pytest
import requests
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.compose.engine import an_engine, lacking
from tests.compose.images import ROOT, provide_images
from tests.compose.project import Project, wait_until

pytestmark = pytest.mark.timeout(2400)
CONSUME = ROOT / "dbt_techstore/models/consume"
MODELS = sorted(file.stem for file in CONSUME.glob("*.sql"))


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    reason = lacking()
    assert not reason, reason
    with an_engine() as engine:
        began = time.monotonic()
        replaced = provide_images(engine)
        print(f"images in {time.monotonic() - began:.0f} s; stand-ins: {replaced or 'none'}")
        made = Project(engine)
        try:
            yield made
        finally:
            made.compose("down", "--volumes", "--remove-orphans", check=False)


def test_up_without_a_setting_and_everything_is_healthy(project: Project) -> None:
    began = time.monotonic()
    project.compose("build")
    built = time.monotonic()
    project.compose("up", "--detach")
    project.wait_healthy()
    print(f"built in {built - began:.0f} s, healthy {time.monotonic() - built:.0f} s later")


def test_rows_of_all_eleven_sources_are_in_the_answers(project: Project) -> None:
    used = {name for file in CONSUME.glob("*.sql")
            for name in re.findall(r"ref\('stg_(\w+)'\)", file.read_text())}  # fmt: skip
    assert len(used) == 11
    for schema, tables in (("raw", sorted(used)), ("consume", MODELS)):
        for table in tables:
            count = f"SELECT count(*) FROM {schema}.{table}"
            wait_until(lambda count=count: int(project.postgres(count) or 0) > 0, count)  # type: ignore[misc]


def test_no_password_can_be_seen_from_outside(project: Project) -> None:
    made = project.shell("postgres", "cat /run/ducklake/*_password && echo").split("\n")
    shown = str(project.everything())
    connector = (
        f"http://127.0.0.1:{project.ports['CONNECT_PORT']}/connectors/techstore-mysql/config"
    )
    answer = requests.get(connector, timeout=30).json()
    assert answer["database.password"] == "${dir:/run/ducklake:mysql_password}"
    assert made[0] and all(word not in shown for word in made if word)


def test_our_roles_are_nobody_on_a_file_system_that_they_cannot_write(project: Project) -> None:
    for service in ("producers", "consumer", "compactor", "batch", "live", "simulator", "api"):
        for container in project.inspect(*project.containers(service)):
            assert container["HostConfig"]["ReadonlyRootfs"]
            assert container["HostConfig"]["Memory"] > 0
        assert project.shell(service, "id -u") == "10001"


def test_live_figures_are_in_their_topic(project: Project) -> None:
    reader = Consumer(
        {"bootstrap.servers": f"127.0.0.1:{project.ports['KAFKA_PORT']}", "group.id": "eyes"}
    )
    try:
        place = TopicPartition("live.kpis", 0)
        wait_until(lambda: reader.get_watermark_offsets(place, 10)[1] > 0, "there are figures")
    finally:
        reader.close()


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
    roles = ("producers", "consumer", "compactor", "batch", "live")
    project.compose("stop", *roles)
    print(f"stopped in {time.monotonic() - began:.0f} s")
    for service in roles:
        for container in project.inspect(*project.containers(service)):
            # 137 would mean that it had to be killed
            assert container["State"]["ExitCode"] == 0, service


def test_down_leaves_nothing(project: Project) -> None:
    assert project.left_behind()
    project.compose("down", "--volumes", "--remove-orphans")
    assert project.left_behind() == []
