"""`ducklake.yml`: every error has its line and its remedy, and no secret is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from lake.config import Config, load_config, masked, without_login
from lake.config.relations import TableRef
from lake.errors import ConfigError
from lake.identifiers import postgres_columns

SOURCE = "sources: {shop: {type: kafka, tables: {orders: {}}}}\n"


def config(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "ducklake.yml"
    path.write_text(text)
    return load_config(path)


def refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        config(tmp_path, text)
    return str(caught.value)


# Keys ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nmae: x", "line 2: nmae: unknown key; did you mean 'name'?"),
        ("batch:\n  thread: 1", "line 3: batch.thread: unknown key; did you mean 'threads'?"),
        (
            "services:\n  kafka:\n    bootstrap: x",
            "line 4: services.kafka.bootstrap: unknown key; did you mean 'bootstrap_servers'?",
        ),
        (
            "embedded: {ports: {kafkaa: 1}}",
            "line 2: embedded.ports.kafkaa: unknown key; did you mean 'kafka'?",
        ),
        ("batch: {threads: 0}", "line 2: batch.threads: Input should be greater than or equal"),
        ("zzz: 1", "line 2: zzz: unknown key; known: name, data_dir, services"),
        ("connections: [a]", "line 2: connections: Input should be a valid dictionary"),
        ("connections: {a: [b]}", "line 2: connections.a: expected the name of a connection"),
        ("connections: {A: embedded}", "line 2: connections.A: String should match pattern"),
    ],
)
def test_a_wrong_key_is_named_with_its_line_and_the_nearest_known_one(
    tmp_path: Path, text: str, said: str
) -> None:
    assert f"ducklake.yml, {said}" in refused(tmp_path, f"{SOURCE}{text}\n")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("tabels: {}", "line 4: sources.s.tabels: unknown key; did you mean 'tables'?"),
        ("conection: x", "line 4: sources.s.conection: unknown key; did you mean 'connection'?"),
    ],
)
def test_a_wrong_key_of_a_source_is_named(tmp_path: Path, key: str, said: str) -> None:
    assert said in refused(tmp_path, f"sources:\n  s:\n    type: x\n    {key}\n    tables: {{}}\n")


def test_a_wrong_key_of_a_table_is_named(tmp_path: Path) -> None:
    text = "sources:\n  s:\n    type: x\n    tables:\n      a:\n        kye: [id]\n"
    said = "line 6: sources.s.tables.a.kye: unknown key; did you mean 'key'?"
    assert said in refused(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("services: {mysql: {host: x}}", "services.mysql: unknown key; each source names its serv"),
        ("services: {sftp: {host: x}}", "services.sftp: unknown key; each source names its server"),
        ("services: {api: {use: public}}", "services.api: unknown key; each source names its ser"),
        (
            "services: {connect: {mysql_password: x}}",
            "services.connect.mysql_password: unknown key; it is `connections.*.connect_password`",
        ),
        ("consumer: {seal_seconds: 1}", "it is `consumer.seal_max_age_seconds` now"),
        ("consumer: {seal_mb: 1}", "it is `consumer.target_file_mb` now"),
    ],
)
def test_a_key_of_an_earlier_version_says_what_it_is_called_now(
    tmp_path: Path, text: str, said: str
) -> None:
    found = refused(tmp_path, f"{SOURCE}{text}\n")
    assert found.startswith("ducklake.yml, line 2: ")
    assert said in found


def test_a_wrong_key_in_the_environment_is_called_by_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUCKLAKE_SERVICES__MYSQL__HOST", "x")
    found = refused(tmp_path, f"{SOURCE}name: x\n")
    assert "services.mysql: unknown key; each source names its server" in found


def test_the_environment_goes_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUCKLAKE_BATCH__THREADS", "7")
    monkeypatch.setenv("WORD", "from the environment")
    text = f"{SOURCE}batch: {{threads: 2, interval_seconds: '${{SECONDS_NOT_SET:-4}}'}}\n"
    made = config(tmp_path, text + "connections: {c: {a: '${WORD}', b: '$${WORD}'}}\n")
    assert (made.settings.batch.threads, made.settings.batch.interval_seconds) == (7, 4)
    assert made.settings.connections == {"c": {"a": "from the environment", "b": "${WORD}"}}
    assert "line 2: SECRET_NOT_SET is not set" in refused(
        tmp_path, f"{SOURCE}connections: {{c: {{password: '${{SECRET_NOT_SET}}'}}}}\n"
    )


@pytest.mark.parametrize(
    "text", ["name: a\nname: b", "consumer: {flush_mb: 1, flush_mb: 2}", "batch: {}\nbatch: {}"]
)
def test_a_key_that_stands_twice_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    found = refused(tmp_path, f"{SOURCE}{text}\n")
    assert f"line {1 + len(text.splitlines())}: " in found
    assert "stands twice, first in line 2." in found


# Names of tables --------------------------------------------------------------------------------


def mysql(*tables: str) -> str:
    lines = ["sources:", "  shop:", "    type: mysql_cdc", "    tables:"]
    return "\n".join([*lines, *(f"      {table}" for table in tables), ""])


def test_any_name_of_mysql_is_a_key_and_has_a_name_in_the_lake(tmp_path: Path) -> None:
    keys = {
        "Orders": "orders",
        "a-b": "a_b",
        "2020_sales": "t_2020_sales",
        "2020_01": "t_2020_01",
        "on": "on",
        "NULL": "null",
        "ñandú": "nandu",
        "with blank": "with_blank",
        "do.t": "do_t",
        "'it''s'": "it_s",
        "表": "t__",
        "_x": "t__x",
    }
    made = config(tmp_path, mysql(*(f"{key}: {{key: [id]}}" for key in keys)))
    found = made.settings.sources["shop"].tables
    assert list(found) == list(keys.values())
    assert found["it_s"].table == "it's"
    assert [found[name].table for name in ("t_2020_01", "on", "null")] == ["2020_01", None, "NULL"]
    assert all(table.key == ["id"] for table in found.values())


def test_a_mistake_in_a_table_with_another_name_has_its_line(tmp_path: Path) -> None:
    said = refused(tmp_path, mysql("a-b:", "  kye: [id]"))
    assert said.startswith("ducklake.yml, line 6: sources.shop.tables.a_b.kye: unknown key")


@pytest.mark.parametrize(
    ("keys", "said", "remedy"),
    [
        (("orders: {}", "Orders: {}"), "line 6: sources.shop.tables.Orders", 'orders_2: {table: "'),
        (("Orders: {}", "ORDERS: {}"), "line 6: sources.shop.tables.ORDERS", 'orders_2: {table: "'),
        (("a-b: {}", "a b: {}", "a_b: {}"), "line 5: sources.shop.tables.a-b", 'a_b_2: {table: "a'),
        (('Bad: {table: "x"}',), "line 5: sources.shop.tables.Bad", "Call it bad;"),
    ],
)
def test_names_that_would_be_one_in_the_lake_are_refused_with_a_remedy_that_works(
    tmp_path: Path, keys: tuple[str, ...], said: str, remedy: str
) -> None:
    found = refused(tmp_path, mysql(*keys))
    assert said in found
    assert remedy in found
    if "{table" not in remedy:
        return
    lines = found.splitlines()
    for line in lines:  # each wrong line of the file becomes what its message says
        wrong = line.partition("tables.")[2].partition(":")[0]
        suggested = line.rpartition("Write `")[2].removesuffix("`.")
        keys = tuple(suggested if key.startswith(f"{wrong}:") else key for key in keys)
        if line is lines[0] and len(lines) == 1:
            assert len(config(tmp_path, mysql(*keys)).settings.sources["shop"].tables) == len(keys)


def test_only_mysql_has_names_that_are_none_in_the_lake(tmp_path: Path) -> None:
    said = refused(tmp_path, "sources: {drops: {type: sftp, tables: {Stock-1: {}}}}\n")
    assert "sources.drops.tables.Stock-1: a table's name in the lake has lower-case" in said
    assert said.endswith("Call it stock_1.")


def test_a_topic_is_no_longer_than_kafka_takes(tmp_path: Path) -> None:
    said = refused(tmp_path, tables(shop=f"{'t' * 245}: {{}}"))
    assert "would have 250 characters, and Kafka takes 249" in said


def test_a_relation_that_postgresql_would_cut_is_shortened(tmp_path: Path) -> None:
    long = "t" * 62
    mine = f"{long}: {{}}, {long}x: {{}}, {long}xy: {{}}, {long}xz: {{}}"
    made = config(tmp_path, tables(a=mine, b=f"{long}: {{}}"))
    names = [made.relation(ref) for ref, _ in made.tables()]
    assert len(set(names)) == 5
    assert all(len(name) <= 63 for name in names)
    assert names[1] == f"{long}x"


def test_columns_have_names_that_postgresql_takes() -> None:
    long = "ñ" * 31
    names = ["xmin", "xmin_", "ctid", "id", f"{long}xa", f"{long}xb", "XMIN", "x" * 63]
    found = postgres_columns(names)
    assert list(found.values())[:4] == ["xmin_", "xmin__2", "ctid_", "id"]
    assert len(set(found.values())) == len(names)
    assert all(len(name.encode()) <= 63 for name in found.values())
    assert found["XMIN"] == "XMIN"
    assert found["x" * 63] == "x" * 63
    assert found[f"{long}xa"].startswith("ñ" * 27 + "_")


# Names in the schema raw ------------------------------------------------------------------------


def tables(**sources: str) -> str:
    lines = [f"  {name}: {{type: kafka, tables: {{{spec}}}}}" for name, spec in sources.items()]
    return "\n".join(["sources:", *lines, ""])


def test_a_table_is_called_after_its_source_where_its_name_is_shared(tmp_path: Path) -> None:
    made = config(tmp_path, tables(a="orders: {}, items: {}", b="orders: {}", c="stock: {}"))
    assert {ref.topic: made.relation(ref) for ref, _ in made.tables()} == {
        "a.orders": "a__orders",
        "a.items": "items",
        "b.orders": "b__orders",
        "c.stock": "stock",
    }


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        (
            {"a": "orders: {}", "b": "orders: {}", "c": "b__orders: {}"},
            "line 4: sources.c.tables.b__orders: its relation would be raw.b__orders, which is the"
            " one of b.orders.",
        ),
        (
            {"a": "dead_letters: {}"},
            "line 2: sources.a.tables.dead_letters: raw.dead_letters holds what could not be",
        ),
        (
            {"a": "b_c: {}", "a_b": "c: {}"},
            "line 3: sources.a_b.tables.c: Kafka cannot tell the topic a_b.c from the one of a.b_c",
        ),
    ],
)
def test_a_name_that_is_taken_is_refused_with_its_line(
    tmp_path: Path, sources: dict[str, str], said: str
) -> None:
    found = refused(tmp_path, tables(**sources))
    assert said in found
    assert "Give one of them another name." in found


def test_dead_letters_of_two_sources_have_names_of_their_own(tmp_path: Path) -> None:
    made = config(tmp_path, tables(a="dead_letters: {}", b="dead_letters: {}"))
    assert made.relation(TableRef("a", "dead_letters")) == "a__dead_letters"


# Secrets ---------------------------------------------------------------------------------------


SECRETS = """\
services:
  kafka:
    bootstrap_servers: "b:1"
    options: {sasl.username: me, sasl.password: hunter2, sasl.jaas.config: 'x password="hunter2"'}
  connect: {url: "http://me:hunter2@connect:8083"}
  postgres: {host: h, password: hunter2}
connections:
  db: {host: h, user: u, password: hunter2, database: d, connect_password: '$${env:P}'}
  api: {url: "https://me:hunter2@there/x", token: hunter2, deep: [{client_secret: hunter2}]}
sources:
  shop:
    type: mysql_cdc
    connection: {host: h, password: hunter2}
    options: {database.ssl.keystore.password: "${THE_SECRET}"}
    tables: {orders: {options: {token: "${THE_SECRET}"}}}
"""


def test_no_secret_is_shown_by_repr_or_str(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_SECRET", "hunter2")
    made = config(tmp_path, SECRETS)
    settings = made.settings
    parts = [made, settings, settings.services.kafka, settings.services.connect]
    parts += [*settings.sources.values(), made.endpoints()]
    for part in parts:
        for shown in (repr(part), str(part), f"{part!r:s}"):
            assert "hunter2" not in shown
    assert "me" in repr(settings.services.kafka) and "${env:P}" in repr(settings)
    assert made.endpoints().kafka_options["sasl.password"] == "hunter2"
    assert made.endpoints().connect == "http://me:hunter2@connect:8083"


def test_no_secret_is_in_an_error(tmp_path: Path) -> None:
    text = SECRETS.replace("b:1", 'b:1", wrong: "hunter2').replace("host: h, p", "hots: h, p")
    assert "hunter2" not in refused(tmp_path, text.replace("${THE_SECRET}", "${X:-x}"))


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("options: {api_token: hunter2}", 4),
        ("options: {a: {b: [{password: hunter2}]}}", 4),
        ("options:\n      sasl.jaas.config: x", 5),
        ("options: {client_secret: 17}", 4),
    ],
)
def test_a_secret_that_stands_in_options_is_refused(
    tmp_path: Path, options: str, line: int
) -> None:
    text = f"sources:\n  s:\n    type: x\n    {options}\n    tables: {{}}\n"
    found = refused(tmp_path, text)
    assert f"ducklake.yml, line {line}: sources.s.options." in found
    assert "a secret in plain text. Take it from the environment: ${S_" in found
    assert "hunter2" not in found


def test_a_secret_in_the_options_of_a_table_is_refused(tmp_path: Path) -> None:
    text = "sources:\n  s:\n    type: x\n    tables:\n      a:\n        options: {secret: x}\n"
    assert "line 6: sources.s.tables.a.options.secret: a secret" in refused(tmp_path, text)


def test_what_only_sounds_like_a_secret_is_none(tmp_path: Path) -> None:
    options = "options: {max_tokens: 5, tokenizer: x, password: '', use_password: true}"
    config(tmp_path, f"sources: {{s: {{type: x, {options}, tables: {{}}}}}}\n")


def test_masking_keeps_what_is_no_secret() -> None:
    assert masked({"user": "u", "password": "p", "n": 1, "l": ["x"]}) == {
        "user": "u",
        "password": "***",
        "n": 1,
        "l": ["x"],
    }
    assert without_login("http://u:p@h:1/x@y") == "http://***@h:1/x@y"
    assert without_login("http://h:1/a:b@c") == "http://h:1/a:b@c"
