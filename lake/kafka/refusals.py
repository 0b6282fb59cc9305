"""Why a broker that is up takes no client: TLS or the login, which a client's error hides."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from lake.certificates import encrypting_context
from lake.config import Endpoints
from lake.errors import ServiceUnreachable

LOOK_SECONDS = 4.0
"""For so long a broker is asked why it does not answer."""
OPTIONS = "services.kafka.options"
_SILENT = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._TIMED_OUT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._SSL,
        KafkaError._AUTHENTICATION,
    }
)
"""What a client says that got no answer, for whatever reason."""
_UNREACHED = re.compile(r"Connect to \S+ failed|Failed to resolve")
_UNTRUSTED = "certificate verify failed"
_ANY_NAME = {"ssl.endpoint.identification.algorithm": "none"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """What stands between a client and a broker that is up.

    Attributes:
        what: It in words, without secrets.
        remedy: What to do.
        is_login: Whether it is about the login, and not about TLS.
    """

    what: str
    remedy: str
    is_login: bool = False


def refusal(endpoints: Endpoints, error: KafkaError) -> Refusal | None:
    """Ask the broker why it takes no client; None where it does, or is not there.

    Args:
        endpoints: Where it is.
        error: What a client says; the broker is asked only if that may mean a refusal.
    """
    if error.code() not in _SILENT:
        return None
    heard = _heard(endpoints, {})
    text = "\n".join(error.str() for error in heard)
    login = next((e.str() for e in heard if e.code() == KafkaError._AUTHENTICATION), "")
    if _UNTRUSTED in text:
        believed = "\n".join(error.str() for error in _heard(endpoints, _ANY_NAME))
        return _untrusted(is_name=_UNTRUSTED not in believed)
    if login:
        return Refusal(
            f"the broker refuses the login ({_plain(login)})",
            f"Correct sasl.mechanism, sasl.username and sasl.password in {OPTIONS}.",
            is_login=True,
        )
    is_encrypted = endpoints.kafka_options.get("security.protocol", "").lower().endswith("ssl")
    if not is_encrypted and _speaks_tls(endpoints.kafka):
        return Refusal(
            "the broker speaks TLS, and security.protocol does not say so",
            f"Set security.protocol in {OPTIONS} to SSL or SASL_SSL, with ssl.ca.location.",
        )
    if is_encrypted and "PLAINTEXT broker listener" in text:
        return Refusal(
            "the broker speaks no TLS at this address, and nothing is sent in plain text",
            "Name the address of its TLS listener in services.kafka.bootstrap_servers.",
        )
    if heard and not _UNREACHED.search(text) and "sasl.mechanism" not in endpoints.kafka_options:
        return Refusal(
            "the broker ends the connection, as one does that asks for a login",
            f"Set security.protocol to SASL_SSL, sasl.mechanism, sasl.username and sasl.password in"
            f" {OPTIONS}.",
            is_login=True,
        )
    return None


def _untrusted(is_name: bool) -> Refusal:
    if is_name:
        return Refusal(
            "the broker's certificate is for another host name",
            "Write a name that the certificate has into services.kafka.bootstrap_servers, and into"
            " the broker's advertised.listeners.",
        )
    return Refusal(
        "the broker's certificate is not trusted",
        f"Name the file of the authority that signed it in {OPTIONS}: ssl.ca.location.",
    )


def _heard(endpoints: Endpoints, options: Mapping[str, str]) -> list[KafkaError]:
    """What a client of its own hears while it connects; nothing where it succeeds."""
    heard: list[KafkaError] = []
    settings = {"error_cb": heard.append, "log_level": 0, **options}
    client = AdminClient({**endpoints.kafka_client(), **settings})
    deadline = time.monotonic() + LOOK_SECONDS
    while time.monotonic() < deadline:
        try:
            client.list_topics(timeout=0.5)
            return []
        except KafkaException:
            client.poll(0.1)
        if any(e.code() != KafkaError._ALL_BROKERS_DOWN for e in heard):
            break
    return heard


def _plain(text: str) -> str:
    """What the broker says, without the client's address and time."""
    said = text.rpartition("SASL authentication error: ")[2]
    return re.sub(r" \(after \d+ms.*", "", said)


def _speaks_tls(servers: str) -> bool:
    address = urlsplit(f"//{servers.split(',')[0].strip()}")
    try:
        at = (address.hostname or "", address.port or 9092)
        with (
            socket.create_connection(at, timeout=LOOK_SECONDS) as plain,
            encrypting_context().wrap_socket(plain, server_hostname=address.hostname),
        ):
            return True
    except (OSError, ValueError):
        return False


def unreachable(endpoints: Endpoints, error: KafkaException, where: str = "") -> ServiceUnreachable:
    """The error of a client that got no answer, with what the broker has against it.

    Args:
        endpoints: Where the broker is.
        error: What the client says.
        where: What was asked for, such as `, topic shop.orders`.
    """
    at = f"Kafka at {endpoints.kafka}{where}"
    cause = error.args[0]
    if (found := refusal(endpoints, cause)) is not None:
        return ServiceUnreachable(f"{at}: {found.what}.", found.remedy)
    return ServiceUnreachable(
        f"{at}: {cause.str()}.", "Is it up? `ducklake status` shows the embedded one."
    )
