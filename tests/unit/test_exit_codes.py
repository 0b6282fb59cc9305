"""The table of exit codes in docs/COMMANDS.md against what commands do, and shell completion."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.shop_lake import ShopLake
from ducklake.cli import app as cli
from ducklake.cli import stack
from ducklake.exit_codes import FENCED, INTERRUPTED
from ducklake.monitoring import observation
from ducklake.monitoring.observation import Observation
from ducklake.supervision.condition import Condition, RoleView
from lake.config import load_config
from lake.errors import ProducerFenced
from lake.formats import RunSummary
from lake.ledger.entries import Run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "COMMANDS.md"
ROW = re.compile(r"^\| (\d+) \| (.+?) \| (.+?) \|$", re.MULTILINE)
SETTINGS = """\
name: codes
services: {kafka: {bootstrap_servers: "127.0.0.1:9"}, postgres: {host: 127.0.0.1}}
sources: {shop: {type: plain, tables: {orders: {}}}}
"""
NO_DETECTION = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
SHELLS = {"bash": "COMP_WORDS", "zsh": "#compdef ducklake", "fish": "_TYPER_COMPLETE_FISH_ACTION"}


def ran(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("ducklake")), *words],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "ducklake.yml").write_text(SETTINGS)
    yield tmp_path


def done(folder: Path) -> int:
    return ran(folder, "config", "schema").returncode


def named_error(folder: Path) -> int:
    found = ran(folder, "schema", "shop.ordres")
    assert "orders" in found.stderr and "Traceback" not in found.stderr
    return found.returncode


def wrong_line(folder: Path) -> int:
    found = ran(folder, "verify", "--nonsense")
    assert "--nonsense" in found.stderr
    return found.returncode


def key_without_row(folder: Path) -> int:
    lake = ShopLake(folder / "shop")
    lake.commit("orders", "SELECT 7::UBIGINT AS order_id, 'paid' AS status", "c")
    lake.close()
    config = ("--config", str(lake.config.path))
    assert ran(folder, "trace", "orders", "7", *config).returncode == 0
    return ran(folder, "trace", "orders", "8", *config).returncode


def replaced(folder: Path) -> int:
    def fenced() -> None:
        raise ProducerFenced("Another process has taken over.", "Leave it.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "app", fenced)
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code == FENCED
    return FENCED


def nothing_started(folder: Path) -> int:
    return ran(folder, "status").returncode


def held_back(folder: Path) -> int:
    """Everything runs: one look that somebody else has taken."""
    summary = RunSummary(1, 1, 1, 1, 0, {"staging.stg_orders": "a test failed"})
    role = RoleView("batch", "healthy", os.getpid(), 0.0, 0, "", "", {})
    seen = Observation(time.time(), Condition((role,)), run=Run(1, 0.0, 1.0, 0, 1, summary))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(observation, "observe", lambda config: seen)
        return stack.show_status(load_config(folder / "ducklake.yml"), as_json=True)


def interrupted(folder: Path) -> int:
    """A first signal is heard, and drains; a second one ends it at once."""
    command = [sys.executable, "-m", "ducklake.cli", "status", "--watch", "--json"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(2):  # the second look comes after it has begun to listen to signals
            assert process.stdout.readline()
        os.kill(process.pid, signal.SIGSTOP)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(process.pid, number)
        os.kill(process.pid, signal.SIGCONT)
        return process.wait(60)


def something_to_do(folder: Path) -> int:
    """What will be done, the e2e test of `plan` asks real services; here somebody has."""
    from ducklake.cli import plan

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "show_plan", lambda config, as_json: True)
        found = CliRunner().invoke(cli.app, ["plan"])
    assert CliRunner().invoke(cli.app, ["plan", "--help"]).exit_code == 0
    return found.exit_code


CASES: dict[tuple[str, str], Callable[[Path], int]] = {
    ("0", "Done"): done,
    ("1", "A named error"): named_error,
    ("2", "The command line"): wrong_line,
    ("3", "It is not well"): key_without_row,
    ("3", "Another process"): replaced,
    ("4", "Nothing was started"): nothing_started,
    ("5", "Everything runs"): held_back,
    ("6", "The configuration or"): something_to_do,
    ("130", "Ctrl-C twice"): interrupted,
}


def documented() -> list[tuple[str, str]]:
    return [(code, meaning) for code, meaning, _ in ROW.findall(PAGE.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(("code", "meaning"), documented())
def test_a_command_ends_with_the_code_that_the_page_promises(
    code: str, meaning: str, folder: Path
) -> None:
    [case] = [
        run for (own, words), run in CASES.items() if own == code and meaning.startswith(words)
    ]
    assert case(folder) == int(code)


def test_every_case_is_documented() -> None:
    assert len(documented()) == len(CASES)
    assert str(INTERRUPTED) in {code for code, _ in documented()}


@pytest.mark.parametrize("shell", sorted(SHELLS))
def test_each_shell_gets_a_script_that_asks_for_words(shell: str, folder: Path) -> None:
    named = ran(folder, "--show-completion", shell, **NO_DETECTION)
    assert named.returncode == 0, named.stderr
    assert SHELLS[shell] in named.stdout and "_DUCKLAKE_COMPLETE" in named.stdout


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ducklake con", {"config", "connector", "consume", "converter"}),
        ("ducklake dead-letters re", {"redrive"}),
        ("ducklake replay --off", {"--offsets"}),
    ],
)
def test_a_shell_completes_commands_and_options(line: str, words: set[str], folder: Path) -> None:
    asked = subprocess.run(
        [str(Path(sys.executable).with_name("ducklake"))],
        cwd=folder,
        env={
            **os.environ,
            "_DUCKLAKE_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split()) - 1),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert set(asked.stdout.split()) == words, asked.stderr
