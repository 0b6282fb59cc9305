"""The text of the units: one for each role, and a target that holds them together."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ducklake.exit_codes import FENCED
from ducklake.supervision.roles import all_roles
from lake.config import Config
from lake.processes.heartbeat import ROLE
from producers.registry import embedded_services

_MEMORY: Mapping[str, str] = {"batch": "4G", "consume": "2G", "compact": "2G"}
"""What a role may take of the machine's memory; `MEMORY` for the others."""
MEMORY = "1G"
_TARGETS = {True: "multi-user.target", False: "default.target"}


@dataclass(frozen=True, slots=True)
class Service:
    """Where and as whom the roles run.

    Attributes:
        config: The configuration.
        is_system: Whether root's systemd runs them, and not that of a user.
        user: Who runs them, where root's systemd does.
    """

    config: Config
    is_system: bool
    user: str = ""

    @property
    def prefix(self) -> str:
        """With what the names of all units begin."""
        return f"ducklake-{self.config.settings.name}"

    @property
    def target(self) -> str:
        """The unit that starts and stops all others."""
        return f"{self.prefix}.target"

    def units(self) -> dict[str, str]:
        """Each unit's name, and its text."""
        roles = [role for role in all_roles(self.config) if role != "monitor"]
        words = {role: role for role in (*roles, "monitor", "dashboard")}
        made = {f"{self.prefix}-{role}.service": self._role(role) for role in words}
        if self._uses_stack:
            made[self._stack_name] = self._stack()
        return {self.target: self._target(list(made)), **made}

    @property
    def _uses_stack(self) -> bool:
        """Whether `ducklake up` has something to start."""
        return bool(embedded_services(self.config))

    @property
    def _stack_name(self) -> str:
        return f"{self.prefix}-stack.service"

    def _target(self, units: list[str]) -> str:
        wants = "\n".join(f"Wants={unit}" for unit in units)
        return (
            f"[Unit]\nDescription=DuckLake Stream: all roles of {self.config.settings.name}\n"
            f"{wants}\n\n[Install]\nWantedBy={_TARGETS[self.is_system]}\n"
        )

    def _role(self, role: str) -> str:
        before = self._stack_name if self._uses_stack else ""
        unit = [
            f"Description=DuckLake Stream: {role} of {self.config.settings.name}",
            f"PartOf={self.target}",
            *self._after(before),
            # Whatever it needs may come up later than this: it is tried again for ever.
            "StartLimitIntervalSec=0",
        ]
        service = [
            "Type=exec",
            # What it finds goes to the journal: a source that is away must not stop the others.
            f"ExecStartPre=-{self._command('doctor')}",
            f"ExecStart={self._command(role)}",
            f"Environment={_quoted(f'{ROLE}={role}')}",
            *self._common(),
            "Restart=on-failure",
            "RestartSec=5",
            # Another process has taken its place, and must keep it.
            f"RestartPreventExitStatus={FENCED}",
            "TimeoutStartSec=300",
            "TimeoutStopSec=60",
            f"MemoryMax={_MEMORY.get(role, MEMORY)}",
            "TasksMax=512",
            "LimitNOFILE=65536",
        ]
        return _text(unit, service, self.target)

    def _stack(self) -> str:
        unit = [
            f"Description=DuckLake Stream: embedded services of {self.config.settings.name}",
            f"PartOf={self.target}",
            *self._after(""),
        ]
        service = [
            "Type=oneshot",
            "RemainAfterExit=yes",
            f"ExecStart={self._command('up')}",
            f"ExecStop={self._command('down')}",
            *self._common(),
            "TimeoutStartSec=600",
            "TimeoutStopSec=120",
        ]
        return _text(unit, service, self.target)

    def _after(self, before: str) -> list[str]:
        network = "network-online.target" if self.is_system else ""
        units = " ".join(filter(None, (network, before)))
        return [f"Wants={units}", f"After={units}"] if units else []

    def _common(self) -> list[str]:
        root = self.config.root
        lines = [
            f"WorkingDirectory={_escaped(str(root))}",
            f"EnvironmentFile=-{_escaped(str(root / '.env'))}",
            "UMask=0077",
            "NoNewPrivileges=yes",
        ]
        if self.is_system:
            lines += [
                f"User={self.user}",
                "PrivateTmp=yes",
                "ProtectSystem=full",
                "ProtectKernelTunables=yes",
                "ProtectControlGroups=yes",
                "RestrictSUIDSGID=yes",
            ]
        return lines

    def _command(self, word: str) -> str:
        parts = (sys.executable, "-m", "ducklake.cli", word, "--config", str(self.config.path))
        return " ".join(_quoted(part) for part in parts)


def folder(is_system: bool, home: Path) -> Path:
    """Where systemd looks for units.

    Args:
        is_system: Of root's systemd, or of a user's.
        home: That user's home.
    """
    if is_system:
        return Path("/etc/systemd/system")
    return home / ".config" / "systemd" / "user"


def _escaped(text: str) -> str:
    """A text in which no `%` is a specifier of systemd."""
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """One word of a command line, whatever it holds."""
    text = _escaped(text).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{text}"'


def _text(unit: list[str], service: list[str], target: str) -> str:
    parts = ["[Unit]", *unit, "", "[Service]", *service, "", "[Install]", f"WantedBy={target}", ""]
    return "\n".join(parts)
