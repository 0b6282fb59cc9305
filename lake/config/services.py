"""The services that the whole lake shares, as `ducklake.yml` has them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import SecretStr, model_validator

from lake.config.section import EMBEDDED, Port, Section


class KafkaService(Section):
    """Where the broker is; `options` are librdkafka settings."""

    bootstrap_servers: str = EMBEDDED
    options: dict[str, str] = {}


class ConnectService(Section):
    """Kafka Connect's REST address, and who logs in there; the address may carry both as well."""

    url: str = EMBEDDED
    user: str = ""
    password: SecretStr = SecretStr("")


class PostgresService(Section):
    """The PostgreSQL database that receives the schemas raw, staging and consume.

    Attributes:
        sslmode: As libpq has it; `require` and above never fall back to plain text.
        sslrootcert: The file of the authorities that may have signed the server's certificate, or
            `system`.
        sslcert: The file of the client certificate that the server asks for.
        sslkey: The file of its private key, which only its owner may read.
    """

    host: str = EMBEDDED
    port: Port = 5432
    user: str = "ducklake"
    password: SecretStr = SecretStr("")
    database: str = "techstore"
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = "prefer"
    sslrootcert: str | None = None
    sslcert: Path | None = None
    sslkey: Path | None = None

    @model_validator(mode="after")
    def _known_authority(self) -> Self:
        if self.sslmode.startswith("verify") and not self.sslrootcert:
            raise ValueError(
                f"sslmode {self.sslmode} needs sslrootcert: the file of the server's authority, or"
                " `system`"
            )
        if self.sslrootcert == "system" and self.sslmode != "verify-full":
            raise ValueError("sslrootcert `system` needs sslmode verify-full")
        if (self.sslcert is None) != (self.sslkey is None):
            raise ValueError("sslcert and sslkey are one client certificate: name both")
        return self


class Services(Section):
    """The services that the whole lake shares: an address, or `embedded`."""

    kafka: KafkaService = KafkaService()
    connect: ConnectService = ConnectService()
    postgres: PostgresService = PostgresService()

    def embedded(self) -> tuple[str, ...]:
        """Names of those that `ducklake up` has to start."""
        wanted = {
            "kafka": self.kafka.bootstrap_servers == EMBEDDED,
            "postgres": self.postgres.host == EMBEDDED,
            "connect": self.connect.url == EMBEDDED,
        }
        return tuple(name for name, yes in wanted.items() if yes)
