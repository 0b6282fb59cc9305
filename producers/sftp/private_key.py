"""The private key with which a user logs in: of any format that OpenSSH and OpenSSL write."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from lake.config import SftpConnection
from lake.errors import SourceError

_MARK = b"PRIVATE KEY-----"


class KeyUnusable(SourceError):
    """The private key of a connection cannot be used."""


def private_key(at: SftpConnection) -> paramiko.PKey | None:
    """The user's private key, decrypted; None where the connection names none.

    Raises:
        KeyUnusable: It is not there, is none, or is encrypted with another passphrase.
        PermissionError: This user may not read it.
    """
    path = at.private_key
    if path is None:
        return None
    if not path.is_file():
        raise KeyUnusable(f"There is no {path}.", f"Mend {at.place}.private_key.")
    content = path.read_bytes()
    if _MARK not in content:
        raise KeyUnusable(
            f"{path} is no private key.",
            f"Name the file without .pub in {at.place}.private_key.",
        )
    made = _for_paramiko(_decrypted(at, path, content))
    if made is None:
        raise KeyUnusable(
            f"{path} is a key of a kind that is no longer used.",
            "Make one with `ssh-keygen -t ed25519`; the server's owner needs its public half.",
        )
    certificate = path.with_name(f"{path.name}-cert.pub")
    if certificate.is_file():
        made.load_certificate(str(certificate))
    return made


def _decrypted(at: SftpConnection, path: Path, content: bytes) -> Any:
    load = load_ssh_private_key if b"OPENSSH" in content else load_pem_private_key
    passphrase = at.plain_passphrase.encode()
    try:
        return load(content, passphrase or None)
    except TypeError:  # plain with a passphrase, or encrypted without one
        if passphrase:
            return load(content, None)
        raise KeyUnusable(
            f"{path} is encrypted.",
            f"Put its passphrase into {at.place}.passphrase, from the environment.",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        if not passphrase:
            raise KeyUnusable(
                f"{path} is damaged.", f"`ssh-keygen -y -f {path}` reads it once it is whole."
            ) from None
        raise KeyUnusable(
            f"{path} cannot be decrypted: its passphrase is another one.",
            f"Correct {at.place}.passphrase; `ssh-keygen -y -f {path}` tries one.",
        ) from None


def _for_paramiko(key: Any) -> paramiko.PKey | None:
    """The same key in the one format of its kind that paramiko reads."""
    kinds: tuple[tuple[type, type[paramiko.PKey], PrivateFormat], ...] = (
        (Ed25519PrivateKey, paramiko.Ed25519Key, PrivateFormat.OpenSSH),
        (RSAPrivateKey, paramiko.RSAKey, PrivateFormat.TraditionalOpenSSL),
        (EllipticCurvePrivateKey, paramiko.ECDSAKey, PrivateFormat.TraditionalOpenSSL),
    )
    for kind, made, form in kinds:
        if isinstance(key, kind):
            text: bytes = key.private_bytes(Encoding.PEM, form, NoEncryption())  # type: ignore[attr-defined]
            return made.from_private_key(StringIO(text.decode()))
    return None
