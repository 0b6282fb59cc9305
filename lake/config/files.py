"""Files that the configuration names: relative to its folder, and there before they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from lake.config.services import Services
from lake.config.settings import Settings

Model = TypeVar("Model", bound=BaseModel)
KAFKA_FILES = (
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.keystore.location",
    "ssl.crl.location",
)
"""Settings of librdkafka that name a file; the first one may be a folder, or `probe`."""
SYSTEM = "system"
"""In `services.postgres.sslrootcert`: the certificates that the system trusts."""


def absolute(root: Path, path: str | Path) -> Path:
    """A path of the configuration, which is relative to the file's folder."""
    return (root / Path(path).expanduser()).absolute()


def with_files_of(root: Path, model: Model) -> Model:
    """The same section, its paths made absolute.

    Args:
        root: The folder of the configuration file.
        model: A section of it; only fields that hold a `Path` change.
    """
    found = {name: value for name, value in model if isinstance(value, Path)}
    return model.model_copy(update={name: absolute(root, path) for name, path in found.items()})


def with_files_of_services(root: Path, settings: Settings) -> Settings:
    """The settings, with the files of Kafka's and PostgreSQL's TLS made absolute."""
    services = settings.services
    options = {
        key: str(absolute(root, value)) if key in KAFKA_FILES and value != "probe" else value
        for key, value in services.kafka.options.items()
    }
    kafka = services.kafka.model_copy(update={"options": options})
    postgres, authority = with_files_of(root, services.postgres), services.postgres.sslrootcert
    if authority not in (None, SYSTEM):
        update = {"sslrootcert": str(absolute(root, str(authority)))}
        postgres = postgres.model_copy(update=update)
    found = services.model_copy(update={"kafka": kafka, "postgres": postgres})
    return settings.model_copy(update={"services": found})


def missing_files(services: Services) -> Iterator[tuple[tuple[str, ...], str]]:
    """The keys of services that name a file which is not there, each with the file."""
    named: Mapping[tuple[str, ...], str] = {
        **{
            ("services", "kafka", "options", key): value
            for key, value in services.kafka.options.items()
            if key in KAFKA_FILES and value != "probe"
        },
        ("services", "postgres", "sslrootcert"): services.postgres.sslrootcert or SYSTEM,
        ("services", "postgres", "sslcert"): str(services.postgres.sslcert or SYSTEM),
        ("services", "postgres", "sslkey"): str(services.postgres.sslkey or SYSTEM),
    }
    for at, path in named.items():
        if path != SYSTEM and not Path(path).exists():
            yield at, path
