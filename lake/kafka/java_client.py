"""Logins and security settings as Kafka's Java programs spell them."""

from __future__ import annotations

from collections.abc import Mapping

LOGIN_VARIABLE = "DUCKLAKE_KAFKA_LOGIN"
"""In Connect's environment: the JAAS line with which connectors log in to Kafka."""
_SAME = (
    "security.protocol",
    "ssl.endpoint.identification.algorithm",
)


def java_client(options: Mapping[str, str]) -> dict[str, str]:
    """Librdkafka's security settings as Java clients spell them (PLAIN and SCRAM; TLS by PEM).

    Args:
        options: `services.kafka.options`.
    """
    settings = {key: options[key] for key in _SAME if key in options}
    if settings.get("ssl.endpoint.identification.algorithm") == "none":
        settings["ssl.endpoint.identification.algorithm"] = ""
    if mechanism := options.get("sasl.mechanism") or options.get("sasl.mechanisms"):
        settings["sasl.mechanism"] = mechanism
        settings["sasl.jaas.config"] = login_line(
            mechanism, options.get("sasl.username", ""), options.get("sasl.password", "")
        )
    if "ssl.ca.location" in options:
        settings["ssl.truststore.type"] = "PEM"
        settings["ssl.truststore.location"] = options["ssl.ca.location"]
    if "ssl.certificate.location" in options:
        # one file with the key and the certificates, as Java wants them
        settings["ssl.keystore.type"] = "PEM"
        settings["ssl.keystore.location"] = options["ssl.certificate.location"]
    return settings


def rest_login_file(users: str) -> str:
    """The JAAS file by which Kafka Connect's REST asks for one of the users of a file.

    Args:
        users: The file: a line `name: password` for each.
    """
    module = "org.apache.kafka.connect.rest.basic.auth.extension.PropertyFileLoginModule"
    path = users.replace("\\", "\\\\").replace('"', '\\"')
    return f'KafkaConnect {{\n  {module} required file="{path}";\n}};\n'


def login_line(mechanism: str, user: str, password: str, more: Mapping[str, str] = {}) -> str:
    """The JAAS line of a login.

    Args:
        mechanism: `PLAIN`, or one of SCRAM.
        user: Who logs in.
        password: The password.
        more: Further entries; of a broker, `user_{name}` with the password of each user.
    """
    module = "plain.Plain" if mechanism == "PLAIN" else "scram.Scram"
    entries = {"username": user, "password": password, **more}
    said = "".join(
        f' {name}="{value.replace(chr(92), chr(92) * 2).replace(chr(34), chr(92) + chr(34))}"'
        for name, value in entries.items()
    )
    return f"org.apache.kafka.common.security.{module}LoginModule required{said};"
