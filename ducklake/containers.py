"""The first service of docker-compose.yml: `python -m ducklake.containers`.

It makes what the others need before they start, once: passwords, the SFTP server's host key and
user, and the shop's files with their dates moved to the present. What is there stays, but for the
converter that Connect takes from this image.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from lake.errors import ConfigError
from lake.kafka.java_client import rest_login_file
from lake.storage.operations import write_atomically
from techstore.place import place_files

NAMES = (
    "mysql_root",
    "mysql",
    "postgres_admin",
    "postgres",
    "sftp",
    "connect",
    "dashboard",
    "metrics",
    "grafana",
)
CONNECT_USER = "ducklake"
SFTP_USER = "techstore"
_SHOP_TIME = ZoneInfo("America/Argentina/Buenos_Aires")
_FORBIDDEN = set(":'\"\\$ \t\r\n")


def make_passwords(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The passwords: as they are in the folder, else from the environment, else random.

    Args:
        folder: Where each gets a file, which no other container sees.
        environment: May name them (`MYSQL_PASSWORD`, …).

    Raises:
        ConfigError: One was changed after the first start, or cannot be used.
    """
    found = {}
    for name in NAMES:
        variable = f"{name.upper()}_PASSWORD"
        wish = environment.get(variable, "")
        file = folder / f"{name}_password"
        if set(wish) & _FORBIDDEN:
            raise ConfigError(
                f"{variable} holds a blank, a quote, a colon, a dollar or a backslash.",
                "The services' own tools cannot all take that; choose another one.",
            )
        if file.exists():
            found[name] = file.read_text(encoding="utf-8")
            if wish and wish != found[name]:
                raise ConfigError(
                    f"{variable} is not the one with which the services were first started.",
                    "Restore it, or run `make compose-down`, which deletes all data.",
                )
            continue
        found[name] = wish or secrets.token_urlsafe(18)
        write_atomically(file, found[name])
    return found


def hand_out(passwords: Mapping[str, str], folder: Path) -> None:
    """Give each password a folder of its own, a volume that only who needs it mounts.

    Args:
        passwords: By name.
        folder: Holds the volumes; their files are readable for the services' users, who all differ.
    """
    for name, password in passwords.items():
        (folder / name).mkdir(exist_ok=True)
        write_atomically(folder / name / "password", password, 0o444)
    connect, password = folder / "connect", passwords["connect"]
    write_atomically(connect / "users.properties", f"{CONNECT_USER}: {password}\n", 0o444)
    write_atomically(
        connect / "jaas.conf", rest_login_file("/run/ducklake/connect/users.properties"), 0o444
    )
    write_atomically(connect / "curl.conf", f'user = "{CONNECT_USER}:{password}"\n', 0o444)


def make_sftp(folder: Path, known_hosts: Path, password: str) -> None:
    """The SFTP server's user and host key, and the file by which clients know that."""
    key_file = folder / "ssh_host_ed25519_key"
    if not key_file.exists():
        made = Ed25519PrivateKey.generate()
        pem = made.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        write_atomically(key_file, pem.decode())
    key = load_ssh_private_key(key_file.read_bytes(), None).public_key()
    public = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    write_atomically(known_hosts, f"sftp {public.decode()}\n", 0o444)
    write_atomically(folder / "users.conf", f"{SFTP_USER}:{password}:1001:100:upload\n")


def place_converter(jar: Path, folder: Path) -> None:
    """Hand this image's converter to Connect."""
    part = folder / f".{jar.name}"
    shutil.copyfile(jar, part)
    part.chmod(0o444)
    part.replace(folder / jar.name)


def main() -> None:
    """Make everything in the volumes of docker-compose.yml."""
    kept, handed = Path("/run/kept"), Path("/run/ducklake")
    sftp, files = Path("/etc/sftp"), Path("/upload")
    passwords = make_passwords(kept, os.environ)
    hand_out(passwords, handed)
    make_sftp(sftp, handed / "sftp" / "known_hosts", passwords["sftp"])
    if not (files / "support_tickets.txt").exists():
        place_files(Path("/project/docker/sftp"), files, datetime.now(_SHOP_TIME).date())
    for file in files.iterdir():
        file.chmod(0o644)
    place_converter(Path("/opt/ducklake-mysql-values.jar"), Path("/run/converter"))
    print("passwords, host key and files are there")


if __name__ == "__main__":
    try:
        main()
    except ConfigError as error:
        raise SystemExit(f"ducklake: {error}") from None
