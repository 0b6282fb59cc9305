"""TLS to a MySQL server: the same wishes for this process and for Debezium, and who is refused."""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pymysql
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    load_pem_private_key,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import (
    PKCS12Certificate,
    serialize_java_truststore,
    serialize_key_and_certificates,
)
from pymysql.connections import Connection
from pymysql.constants import CR
from pymysql.cursors import Cursor

from lake.certificates import context_of, encrypting_context
from lake.config import Config, MysqlConnection
from lake.errors import SourceError
from lake.storage.operations import make_folder, write_atomically

Found = TypeVar("Found")
STORE_PASSWORD = "ducklake"
"""Java wants one; what keeps a private key from others is the mode of its file."""
INSECURE = 3159
"""MySQL's code for a client without TLS where `require_secure_transport` is on."""
DISABLED = "disabled"
_OF_CERTIFICATES = re.compile(r"ALERT_(\w*CERTIFICATE|UNKNOWN_CA)")
"""What a server says to a client's certificate, or to none."""
_VERIFYING = ("verify_ca", "verify_identity")


class TlsRefused(SourceError):
    """A server and this side do not agree on TLS."""


def connected(at: MysqlConnection, **settings: Any) -> Connection[Cursor]:
    """A connection with which the user has logged in, encrypted as `ssl_mode` says.

    Args:
        at: The server.
        settings: Further ones of PyMySQL.

    Raises:
        pymysql.MySQLError: The server does not answer, or refuses; `query.named_error` names it.
        SourceError: `ssl_ca` cannot be read.
    """
    options: dict[str, Any] = {
        "host": at.host,
        "port": at.port,
        "user": at.user,
        "password": at.plain_password.encode(),  # a text would become Latin-1
        "ssl_disabled": at.ssl_mode == DISABLED,
        **settings,
    }
    context = _context(at)
    if context is not None:
        options |= {"ssl": encrypting_context()}
    made: Connection[Cursor] = pymysql.connect(**options, defer_connect=True)
    if context is not None:
        # as an argument, it would have to be of whatever class `ssl` has by now
        made.ctx = context  # type: ignore[attr-defined]
    made.connect()
    return made


def _context(at: MysqlConnection) -> ssl.SSLContext | None:
    if at.ssl_mode == "required":
        context = encrypting_context()
    elif at.ssl_mode in _VERIFYING:
        assert at.ssl_ca is not None, "validated with the mode"
        context = _read(at, lambda path: context_of(path, at.ssl_mode == "verify_identity"))
    else:
        return None
    if at.ssl_cert is not None:
        with _client_certificate(at):
            context.load_cert_chain(at.ssl_cert, at.ssl_key, password="")
    return context


@contextmanager
def _client_certificate(at: MysqlConnection) -> Iterator[None]:
    """What cannot be read of the client certificate is named."""
    try:
        yield
    except (ssl.SSLError, ValueError, TypeError):
        reason = "they hold no certificate in PEM format and its private key without a passphrase"
    except OSError as error:
        reason = error.strerror or type(error).__name__
    else:
        return
    raise TlsRefused(
        f"{at.ssl_cert}, {at.ssl_key or 'with its key'}: {reason}.",
        f"Name a client certificate in {at.place}.ssl_cert and its key in {at.place}.ssl_key.",
    )


def _read(at: MysqlConnection, read: Callable[[Path], Found]) -> Found:
    """What a function makes of `ssl_ca`."""
    assert at.ssl_ca is not None
    try:
        return read(at.ssl_ca)
    except (ssl.SSLError, ValueError):
        reason = "it holds no certificate in PEM format"
    except OSError as error:
        reason = error.strerror or type(error).__name__
    raise TlsRefused(
        f"{at.ssl_ca}: {reason}.",
        f"Name the file of the server's authority in {at.place}.ssl_ca (PEM).",
    )


def refused(error: pymysql.MySQLError, at: MysqlConnection) -> TlsRefused | None:
    """What an error says of TLS; None if it says nothing of it."""
    server = f"MySQL {at.host}:{at.port}"
    cause = getattr(error, "original_exception", None)
    code = error.args[0] if error.args else 0
    if isinstance(cause, ssl.SSLCertVerificationError):
        reason = cause.verify_message.rstrip(".")
        if "ostname mismatch" in reason or "IP address mismatch" in reason:
            return TlsRefused(
                f"{server}: its certificate is for another host name ({reason}).",
                f"Write into {at.place}.host a name that the certificate has, or have one made for"
                " this name.",
            )
        return TlsRefused(
            f"{server}: its certificate is not trusted ({reason}).",
            f"Name the file of the authority that signed it in {at.place}.ssl_ca.",
        )
    if isinstance(cause, ssl.SSLError) and _OF_CERTIFICATES.search(cause.reason or ""):
        return TlsRefused(
            f"{server}: it does not take the client certificate ({cause.reason}).",
            f"Name one that the server's authority has signed in {at.place}.ssl_cert.",
        )
    if isinstance(cause, ssl.SSLError):
        return TlsRefused(
            f"{server}: TLS failed ({cause.reason or type(cause).__name__}).",
            f"The server offers no TLS that is still safe; update it. {at.place}.ssl_mode asks for"
            " TLS.",
        )
    if code == CR.CR_SSL_CONNECTION_ERROR:
        return TlsRefused(
            f"{server}: it offers no TLS, and ssl_mode is {at.ssl_mode}.",
            f"Set up TLS at the server; nothing is sent in plain text unless {at.place}.ssl_mode"
            " allows it.",
        )
    if code == INSECURE:
        return TlsRefused(
            f"{server}: it takes connections with TLS only, and ssl_mode is {at.ssl_mode}.",
            f"Set {at.place}.ssl_mode to verify_identity, with ssl_ca.",
        )
    return None


def truststore(config: Config, at: MysqlConnection) -> Path:
    """The file with the authority of a server for Java; a new authority has a new one.

    Raises:
        SourceError: `ssl_ca` cannot be read.
    """
    return _store(config, "truststore", _read(at, Path.read_bytes))


def keystore(config: Config, at: MysqlConnection) -> Path:
    """The file with the client certificate and its key for Java; a new one has a new file.

    Raises:
        SourceError: They cannot be read.
    """
    return _store(config, "keystore", b"".join(_client_files(at)))


def _store(config: Config, kind: str, content: bytes) -> Path:
    name = f"{kind}-{hashlib.sha256(content).hexdigest()[:16]}.p12"
    return config.data_dir / "run" / name


def _client_files(at: MysqlConnection) -> tuple[bytes, bytes]:
    """The files of the client certificate and of its key."""
    assert at.ssl_cert is not None
    with _client_certificate(at):
        return at.ssl_cert.read_bytes(), (at.ssl_key or at.ssl_cert).read_bytes()


def write_stores(config: Config, at: MysqlConnection) -> None:
    """Write those files unless they are there, or none is needed.

    Raises:
        SourceError: What they are made of cannot be read.
    """
    encryption = BestAvailableEncryption(STORE_PASSWORD.encode())
    if at.ssl_ca is not None and not (path := truststore(config, at)).exists():
        found = _read(at, lambda ca: x509.load_pem_x509_certificates(ca.read_bytes()))
        entries = [
            PKCS12Certificate(certificate, f"authority-{number}".encode())
            for number, certificate in enumerate(found)
        ]
        make_folder(path.parent)
        write_atomically(path, serialize_java_truststore(entries, encryption))
    if at.ssl_cert is not None and not (path := keystore(config, at)).exists():
        shown, key = _client_files(at)
        with _client_certificate(at):
            first, *chain = x509.load_pem_x509_certificates(shown)
            private = load_pem_private_key(key, None)
            made = serialize_key_and_certificates(b"client", private, first, chain, encryption)  # type: ignore[arg-type]
        make_folder(path.parent)
        write_atomically(path, made)


def debezium_settings(config: Config, at: MysqlConnection) -> dict[str, str]:
    """How Debezium encrypts its connections to the server, and the certificate that it shows.

    Raises:
        SourceError: A file of them cannot be read.
    """
    found: dict[str, str] = {"database.ssl.mode": at.ssl_mode}
    stores = {}
    if at.ssl_ca is not None:
        stores["truststore"] = at.connect_truststore or str(truststore(config, at))
    if at.ssl_cert is not None:
        stores["keystore"] = at.connect_keystore or str(keystore(config, at))
    for kind, path in stores.items():
        found |= {
            f"database.ssl.{kind}": path,
            f"database.ssl.{kind}.password": STORE_PASSWORD,
        }
    return found
