"""Certificates: those of the system's store, where a company puts its own authority."""

from __future__ import annotations

import truststore

UNTRUSTED = (
    "If a proxy of your company stands between, add its authority to the system's store: copy"
    " it as company.crt into /usr/local/share/ca-certificates and run `update-ca-certificates`"
    " (Debian, Ubuntu), or name its file in the environment, SSL_CERT_FILE=/path/to/company.crt."
)
"""What to do about a certificate that is not trusted."""


def use_system_certificates() -> None:
    """Have every TLS client of this process believe the authorities that the system does.

    Without this `requests` believes a list of its own, in which no company's authority is. Called
    before the first connection.
    """
    truststore.inject_into_ssl()
