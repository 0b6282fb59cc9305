"""Servers that sources read: each source names one, under `connections` or within itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    PrivateAttr,
    SecretStr,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from lake.config.secrecy import is_reference
from lake.config.section import EMBEDDED, Port, Section


class Connection(Section):
    """A server; a connector of your own may declare another kind of it."""

    _place: str = PrivateAttr(default="the source's connection")

    @property
    def place(self) -> str:
        """Where it stands in `ducklake.yml`, for errors."""
        return self._place

    def placed(self, name: str, place: str) -> Self:
        """The same connection that knows its name.

        Args:
            name: Its name under `connections`, or the name of the source that holds it.
            place: The key under which it stands.
        """
        made = self.model_copy()
        made._place = place
        return made


class LoginConnection(Connection):
    """A server that asks for a user and a password."""

    host: str
    user: str
    password: SecretStr = SecretStr("")

    @property
    def plain_password(self) -> str:
        """The password itself, for the client that logs in."""
        return self.password.get_secret_value()


class MysqlConnection(LoginConnection):
    """A MySQL server that Debezium follows.

    The user needs SELECT, RELOAD, SHOW DATABASES, REPLICATION SLAVE and REPLICATION CLIENT.

    Attributes:
        connect_password: How Kafka Connect itself finds the password: a reference to one of its
            config providers; by default `${env:DUCKLAKE_{NAME}_PASSWORD}`.
        ssl_mode: As the `mysql` program has it; `required` and above never fall back to plain text.
        ssl_ca: The file of the authorities that may have signed the server's certificate.
        ssl_cert: The file of the client certificate that the server asks for.
        ssl_key: The file of its private key; by default it is in the same file.
        connect_truststore: Where Kafka Connect finds the same as a PKCS12 file, if it cannot read
            the one that `ducklake produce` writes.
        connect_keystore: The same of the client certificate.
    """

    port: Port = 3306
    database: str
    connect_password: str | None = None
    ssl_mode: Literal["disabled", "preferred", "required", "verify_ca", "verify_identity"] = (
        "preferred"
    )
    ssl_ca: Path | None = None
    ssl_cert: Path | None = None
    ssl_key: Path | None = None
    connect_truststore: str | None = None
    connect_keystore: str | None = None

    @model_validator(mode="after")
    def _known_authority(self) -> Self:
        if self.ssl_mode.startswith("verify") and self.ssl_ca is None:
            raise ValueError(f"ssl_mode {self.ssl_mode} needs ssl_ca: the server's authority")
        if self.ssl_ca is not None and not self.ssl_mode.startswith("verify"):
            raise ValueError(
                f"ssl_mode {self.ssl_mode} does not look at ssl_ca: set it to verify_identity (or"
                " verify_ca, whatever the host's name)"
            )
        if self.ssl_key is not None and self.ssl_cert is None:
            raise ValueError("ssl_key needs ssl_cert: the client certificate of this key")
        if self.ssl_cert is not None and self.ssl_mode in ("disabled", "preferred"):
            raise ValueError(
                f"ssl_mode {self.ssl_mode} does not show ssl_cert to the server: set it to"
                " verify_identity, with ssl_ca"
            )
        return self

    @field_validator("connect_password")
    @classmethod
    def _never_itself(cls, reference: str | None) -> str | None:
        if reference is not None and not is_reference(reference):
            raise ValueError(
                "it is not a reference, and Connect would show the password to everybody who asks:"
                " name one of its config providers, such as $${env:DUCKLAKE_SHOP_PASSWORD} or"
                " $${file:/run/secrets/mysql:password}"
            )
        return reference

    @property
    def connect_reference(self) -> str:
        """The reference to the password that Connect resolves."""
        assert self.connect_password is not None, "placed before it is used"
        return self.connect_password

    def placed(self, name: str, place: str) -> Self:
        """Fill in what depends on the connection's name."""
        reference = self.connect_password or f"${{env:DUCKLAKE_{name.upper()}_PASSWORD}}"
        made = self.model_copy(update={"connect_password": reference})
        made._place = place
        return made


class SftpConnection(LoginConnection):
    """An SFTP server; its host key must be in `known_hosts`.

    Attributes:
        private_key: The file of the key with which the user logs in.
        passphrase: What decrypts it.
        known_hosts: The file with the server's host key.
    """

    port: Port = 22
    private_key: Path | None = None
    passphrase: SecretStr = SecretStr("")
    known_hosts: Path | None = None

    @field_validator("private_key", "known_hosts")
    @classmethod
    def _of_this_user(cls, path: Path | None) -> Path | None:
        return path.expanduser() if path is not None else None

    @property
    def plain_passphrase(self) -> str:
        """The passphrase of the private key; the password, where none is given."""
        return self.passphrase.get_secret_value() or self.plain_password


def _name_or_mapping(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return value
    raise ValueError(f"expected the name of a connection, `{EMBEDDED}`, or its keys")


def _schema(*words: str) -> dict[str, Any]:
    kinds = [model.model_json_schema() for model in (MysqlConnection, SftpConnection)]
    return {"anyOf": [{"type": "string", "examples": list(words)}, *kinds, {"type": "object"}]}


ConnectionEntry = Annotated[
    Any, AfterValidator(_name_or_mapping), WithJsonSchema(_schema(EMBEDDED))
]
"""What stands in the file: a word, or the keys of a connection, which its connector validates."""
