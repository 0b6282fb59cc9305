"""Whose files are believed: a configuration, a dbt project and a module run as whoever reads them.

`ducklake.yml` is looked for in the folders above, as far as `/tmp`, where anybody may put one.
"""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import stat
from pathlib import Path

from lake.errors import ConfigError

_PROGRAM = Path(__file__)


def doubt(path: Path) -> str:
    """Why a file or folder may be another user's doing; empty if it is this user's or root's.

    Who installed the program is believed as well.
    """
    try:
        found = path.stat()
    except OSError:
        return ""  # whoever opens it says so
    if found.st_uid not in {os.geteuid(), 0, _PROGRAM.stat().st_uid}:
        return f"it belongs to another user ({_user(found.st_uid)})"
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        return f"every user may change it (mode {stat.S_IMODE(found.st_mode):o})"
    if found.st_mode & stat.S_IWGRP and not _is_private(found.st_gid, found.st_uid):
        return f"its group may change it (mode {stat.S_IMODE(found.st_mode):o})"
    return ""


def assert_believed(path: Path, what: str, remedy: str, named_by: Path | None = None) -> None:
    """Refuse what another user may have written.

    Args:
        path: The file or folder.
        what: What it is: `the configuration`.
        remedy: What to do instead of taking it over.
        named_by: The configuration that names it. One of another user was itself named by hand,
            and so believed, with what it names.

    Raises:
        ConfigError: It is another user's, or others may change it.
    """
    why = doubt(path)
    if not why or (named_by is not None and doubt(named_by)):
        return
    name = shlex.quote(str(path))
    close = f"chmod go-w {name}"
    if path.stat().st_uid not in (os.geteuid(), 0):
        close = f"sudo chown {_user(os.geteuid())} {name} && {close}"
    raise ConfigError(
        f"{path}: {what} is not used: {why}, who could run any program through it.",
        f"{remedy} To take it over: `{close}`.",
    )


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _is_private(gid: int, uid: int) -> bool:
    """Whether nobody but the owner and root is in the group, as in the group of one's own name."""
    try:
        members = {pwd.getpwnam(name).pw_uid for name in grp.getgrgid(gid).gr_mem}
    except KeyError:
        members = set()  # of a group without a name, or a member that is gone
    members |= {user.pw_uid for user in pwd.getpwall() if user.pw_gid == gid}
    return members <= {uid, 0}
