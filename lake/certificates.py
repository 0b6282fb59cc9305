"""Certificates: those of the system's store, where a company puts its own authority."""

from __future__ import annotations

import ssl
from pathlib import Path

import truststore

_OWN_STORE = ssl.SSLContext
"""Before `truststore` replaces it, whose class believes the system, too, whatever is named."""
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


def context_of(authority: Path, checks_name: bool) -> ssl.SSLContext:
    """A client's context that believes the authorities of one file, and no others.

    Args:
        authority: The file, in PEM format.
        checks_name: Whether the certificate has to be for the host that is asked.

    Raises:
        OSError: The file cannot be read, or holds no certificate (`ssl.SSLError`).
    """
    context = _OWN_STORE(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = checks_name
    context.load_verify_locations(cafile=str(authority))
    return context


def encrypting_context() -> ssl.SSLContext:
    """A client's context that encrypts, and believes everybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
