"""SFTP servers that take public keys only: the key, its passphrase, and the server's own key."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncssh
import paramiko
import pytest
import yaml
from pydantic import SecretStr

from ducklake.doctor.files import sftp
from ducklake.doctor.findings import OK, Finding
from lake.config import Config, SftpConnection, load_config
from lake.errors import SourceError
from producers.registry import source_connection
from producers.sftp.private_key import private_key
from producers.sftp.session import open_session
from tests.unit.sftp_server import Faults, sftp_server

PASSPHRASE = "correct horse"
VARIABLE = "SUPPLIER_PASSPHRASE"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The folder with the keys, and the address of a server that knows one of them."""
    folder = tmp_path_factory.mktemp("keys")
    key = asyncssh.generate_private_key("ssh-ed25519")
    for name, made, passphrase in (
        ("plain", key, None),
        ("encrypted", key, PASSPHRASE),
        ("stranger", asyncssh.generate_private_key("ssh-ed25519"), None),
    ):
        (folder / name).write_bytes(made.export_private_key(passphrase=passphrase))
        (folder / name).chmod(0o600)
    (folder / "encrypted.pub").write_bytes(key.export_public_key())
    (folder / "encrypted.pub").chmod(0o600)
    with sftp_server(folder / "root", Faults(keys=[key.convert_to_public()])) as at:
        (folder / "root" / "stock.csv").write_text("a\n1\n")
        del at["password"]
        yield folder, at


def configured(server: tuple[Path, dict[str, Any]], changed: Mapping[str, Any]) -> Config:
    folder, at = server
    path = folder / "ducklake.yml"
    keys = {name: value for name, value in {**at, **changed}.items() if value is not None}
    settings = {
        "services": {
            "kafka": {"bootstrap_servers": "127.0.0.1:9"},
            "postgres": {"host": "127.0.0.1"},
        },
        "connections": {"supplier": keys},
        "sources": {
            "drops": {
                "type": "sftp",
                "connection": "supplier",
                "tables": {"stock": {"file": "stock.csv"}},
            }
        },
    }
    path.write_text(yaml.safe_dump(settings))
    return load_config(path)


def listed(config: Config) -> list[str]:
    at = source_connection(config, "drops")
    assert isinstance(at, SftpConnection)
    with open_session(at) as session:
        return session.listdir("/")


def faults_of(config: Config) -> list[Finding]:
    return [finding for finding in sftp(config, "drops") if finding.level != OK]


def test_a_key_logs_in_and_its_path_is_relative_to_the_file(server: tuple[Path, Any]) -> None:
    config = configured(server, {"private_key": "plain"})
    assert listed(config) == ["stock.csv"]
    assert not faults_of(config)


def test_an_encrypted_key_takes_its_passphrase_from_the_environment(
    server: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, PASSPHRASE)
    for name in ("passphrase", "password"):  # as before there was a key of its own for it
        config = configured(server, {"private_key": "encrypted", name: f"${{{VARIABLE}}}"})
        assert listed(config) == ["stock.csv"]
        assert PASSPHRASE not in repr(source_connection(config, "drops"))


@pytest.mark.parametrize(
    ("changed", "what", "remedy"),
    [
        ({"private_key": "encrypted"}, "is encrypted", "connections.supplier.passphrase"),
        (
            {"private_key": "encrypted", "passphrase": "battery staple"},
            "its passphrase is another one",
            "connections.supplier.passphrase",
        ),
        ({"private_key": "encrypted.pub"}, "is no private key", "without .pub"),
        ({"private_key": "nowhere"}, "There is no", "connections.supplier.private_key"),
    ],
)
def test_a_key_that_cannot_be_used_is_named_with_its_setting(
    server: tuple[Path, Any], changed: dict[str, str], what: str, remedy: str
) -> None:
    config = configured(server, changed)
    with pytest.raises(SourceError, match=what) as caught:
        listed(config)
    assert remedy in caught.value.remedy
    assert changed.get("passphrase", PASSPHRASE) not in str(caught.value)
    assert [finding.code for finding in faults_of(config)] == ["DL-606"]


@pytest.mark.parametrize("login", [{"private_key": "stranger"}, {"password": "hunter2"}])
def test_a_login_that_the_server_does_not_take_is_named_without_it(
    server: tuple[Path, Any], login: dict[str, str]
) -> None:
    config = configured(server, login)
    with pytest.raises(SourceError, match="refuses the user 'u'") as caught:
        listed(config)
    assert "private_key" in caught.value.remedy and "hunter2" not in str(caught.value)
    assert [finding.code for finding in faults_of(config)] == ["DL-603"]


def test_a_server_with_another_key_gets_no_login(server: tuple[Path, Any]) -> None:
    folder, at = server
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    (folder / "other_hosts").write_text(f"[127.0.0.1]:{at['port']} {other}")
    (folder / "no_hosts").write_text("")
    for hosts, what in (("other_hosts", "server's key is not"), ("no_hosts", "its key is not in")):
        config = configured(server, {"private_key": "plain", "known_hosts": hosts})
        with pytest.raises(SourceError, match=what):
            listed(config)
        assert [finding.code for finding in faults_of(config)] == ["DL-602"]


def test_a_new_host_key_is_known_before_the_server_shows_it(server: tuple[Path, Any]) -> None:
    folder, at = server
    name = f"[127.0.0.1]:{at['port']}"
    [_, *shown] = Path(at["known_hosts"]).read_text().split()
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().split()[:2]
    hashed = paramiko.HostKeys.hash_host(name)
    for lines in (
        [(name, *other), (name, *shown)],  # the server shows the new one already
        [(name, *shown), (name, *other)],  # and here not yet
        [("# old", *other), (hashed, *other), (hashed, *shown)],
    ):
        (folder / "both_hosts").write_text("".join(f"{' '.join(line)}\n" for line in lines))
        config = configured(server, {"private_key": "plain", "known_hosts": "both_hosts"})
        assert listed(config)
        assert faults_of(config) == []
    (folder / "both_hosts").write_text(f"elsewhere {' '.join(shown)}\n{name} {' '.join(other)}\n")
    config = configured(server, {"private_key": "plain", "known_hosts": "both_hosts"})
    with pytest.raises(SourceError, match="server's key is not"):
        listed(config)


def test_a_key_that_others_can_read_is_told(server: tuple[Path, Any]) -> None:
    key = server[0] / "plain"
    key.chmod(0o644)
    try:
        [finding] = faults_of(configured(server, {"private_key": "plain"}))
    finally:
        key.chmod(stat.S_IRUSR | stat.S_IWUSR)
    assert finding.code == "DL-604" and finding.remedy.endswith(str(key))


def test_a_line_that_is_no_key_is_named(server: tuple[Path, Any]) -> None:
    (server[0] / "bad_hosts").write_text("host ssh-ed25519 AAA")
    config = configured(server, {"private_key": "plain", "known_hosts": "bad_hosts"})
    with pytest.raises(SourceError, match="has a line whose key is not one") as caught:
        listed(config)
    assert "bad_hosts" in caught.value.what and "ssh-keygen -l" in caught.value.remedy


@pytest.mark.parametrize("kind", ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256"])
@pytest.mark.parametrize("form", ["openssh", "pkcs8-pem", "pkcs1-pem"])
def test_keys_of_every_format_are_read(tmp_path: Path, kind: str, form: str) -> None:
    key = asyncssh.generate_private_key(kind)
    if (kind, form) == ("ssh-ed25519", "pkcs1-pem"):
        kind, form, key = "ssh-dss", "pkcs8-pem", asyncssh.generate_private_key("ssh-dss")
    for passphrase in (None, PASSPHRASE):
        path = tmp_path / "key"
        path.write_bytes(key.export_private_key(form, passphrase=passphrase))
        at = SftpConnection(
            host="h", user="u", private_key=path, passphrase=SecretStr(passphrase or "")
        ).placed("s", "connections.s")
        if kind == "ssh-dss":
            with pytest.raises(SourceError, match="of a kind that is no longer used") as caught:
                private_key(at)
            assert "ssh-keygen -t ed25519" in caught.value.remedy
            continue
        read = private_key(at)
        assert read is not None and read.get_base64() in key.export_public_key().decode()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(SourceError, match=r"is damaged|another one"):
        private_key(at)
