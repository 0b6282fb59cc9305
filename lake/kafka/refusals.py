"""Why a broker that is up takes no client: TLS or the login, which a client's error hides."""

from __future__ import annotations

import re
import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from lake.certificates import context_of, encrypting_context
from lake.config import Endpoints
from lake.errors import ServiceUnreachable

LOOK_SECONDS = 8.0
"""For so long a broker is asked why it does not answer."""
OPTIONS = "services.kafka.options"
_SILENT = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._SSL,
        KafkaError._AUTHENTICATION,
    }
)
"""What a client says that could not connect; a broker that only hangs is not asked again."""
_HUNG_UP = re.compile(r"Disconnected|(?:closed|reset) by peer")
_CERTIFICATE = re.compile(r"alert (unknown ca|\w* ?certificate)")
"""What a server says to a certificate of a client, or to none."""
_UNTRUSTED = "certificate verify failed"
_OTHER_NAME = ("Hostname mismatch", "IP address mismatch")


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
    is_encrypted = endpoints.kafka_options.get("security.protocol", "").lower().endswith("ssl")
    if not is_encrypted and _speaks_tls(endpoints.kafka):
        return Refusal(
            "the broker speaks TLS, and security.protocol does not say so",
            f"Set security.protocol in {OPTIONS} to SSL or SASL_SSL, with ssl.ca.location.",
        )
    heard = _heard(endpoints)
    text = "\n".join(error.str() for error in heard)
    login = next((e.str() for e in heard if e.code() == KafkaError._AUTHENTICATION), "")
    if _UNTRUSTED in text:
        return _untrusted(is_name=_is_other_name(endpoints))
    if _CERTIFICATE.search(text):
        return Refusal(
            "the broker asks for a client certificate that an authority of its own has signed",
            f"Name it in {OPTIONS}: ssl.certificate.location and ssl.key.location.",
        )
    if login:
        return Refusal(
            f"the broker refuses the login ({_plain(login)})",
            f"Correct sasl.mechanism, sasl.username and sasl.password in {OPTIONS}.",
            is_login=True,
        )
    if is_encrypted and "PLAINTEXT broker listener" in text:
        return Refusal(
            "the broker speaks no TLS at this address, and nothing is sent in plain text",
            "Name the address of its TLS listener in services.kafka.bootstrap_servers.",
        )
    # of a connection that is taken and closed, librdkafka says no more than that
    only_down = bool(heard) and all(e.code() == KafkaError._ALL_BROKERS_DOWN for e in heard)
    is_hung_up = only_down or _HUNG_UP.search(text) is not None
    if is_hung_up and "sasl.mechanism" not in endpoints.kafka_options:
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


def _heard(endpoints: Endpoints) -> list[KafkaError]:
    """What a client of its own hears while it connects; nothing where it succeeds."""
    heard: list[KafkaError] = []
    settings = {"error_cb": heard.append, "log_level": 0}
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


def _is_other_name(endpoints: Endpoints) -> bool:
    """Whether the certificate is trusted, but for its name; librdkafka says the same of both."""
    authority = endpoints.kafka_options.get("ssl.ca.location")
    try:
        context = context_of(Path(authority), True) if authority else ssl.create_default_context()
        _handshake(endpoints.kafka, context)
    except ssl.SSLCertVerificationError as error:
        return error.verify_message.startswith(_OTHER_NAME)
    except (OSError, ValueError):
        pass
    return False


def _speaks_tls(servers: str) -> bool:
    try:
        _handshake(servers, encrypting_context())
    except (OSError, ValueError):
        return False
    return True


def _handshake(servers: str, context: ssl.SSLContext) -> None:
    """Connect to the first of the brokers by TLS, and close the connection."""
    address = urlsplit(f"//{servers.split(',')[0].strip()}")
    at = (address.hostname or "", address.port or 9092)
    with (
        socket.create_connection(at, timeout=LOOK_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=address.hostname),
    ):
        return


def unreachable(
    endpoints: Endpoints,
    error: KafkaException,
    where: str = "",
    remedy: str = "Is it up? `ducklake status` shows the embedded one.",
) -> ServiceUnreachable:
    """The error of a client that got no answer, with what the broker has against it.

    Args:
        endpoints: Where the broker is.
        error: What the client says.
        where: What was asked for, such as `, topic shop.orders`.
        remedy: What to do where the broker has nothing against the client.
    """
    at = f"Kafka at {endpoints.kafka}{where}"
    cause = error.args[0]
    if (found := refusal(endpoints, cause)) is not None:
        return ServiceUnreachable(f"{at}: {found.what}.", found.remedy)
    return ServiceUnreachable(f"{at}: {cause.str()}.", remedy)
