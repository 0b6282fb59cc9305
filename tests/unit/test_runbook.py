"""docs/OPERATIONS.md has no step that nobody has run: each command has the test that runs it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "OPERATIONS.md"
FENCE = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = ("ducklake", "docker", "systemctl", "loginctl", "journalctl", "cat", "cp", "ALTER")
INLINE = re.compile(rf"`((?:{'|'.join(PROGRAMS)}) [^`]+)`")

SECURED = "integration/test_secured_services.py"
UNITS = "unit/test_service_units.py::test_systemd_takes_the_units"
"""No systemd runs where the tests do: it judges the units, and starts none."""
OPTIONAL = "compose/test_stack.py::test_what_is_optional_comes_by_its_profile_alone"
"""The images of Prometheus and Grafana come from a registry: elsewhere their files are judged."""
TARGET = "ducklake-techstore.target"
REPLAY = "integration/test_replay_page.py"
ROTATED = f"{SECURED}::test_passwords_and_the_authority_are_changed"
STEPS = {
    "ducklake doctor": (
        "integration/test_doctor.py::test_nothing_is_wrong_and_every_service_is_named"
    ),
    "ducklake service install": (
        "unit/test_service_units.py::test_the_command_writes_shows_and_removes_them"
    ),
    f"systemctl --user daemon-reload && systemctl --user enable --now {TARGET}": UNITS,
    "loginctl enable-linger": UNITS,
    "journalctl --user --unit 'ducklake-techstore-*' --follow": UNITS,
    "systemctl --user edit ducklake-techstore-batch": UNITS,
    f"systemctl --user stop {TARGET}": UNITS,
    "ducklake run": (
        "integration/test_supervision.py"
        "::test_a_term_signal_ends_all_in_order_and_leaves_no_problem"
    ),
    "ducklake status": "integration/test_stack.py::test_the_lines_of_status_open_each_part",
    "ducklake status --json": ("integration/test_same_word.py::test_a_broker_that_does_not_answer"),
    "ducklake monitor": (
        "unit/test_alerts.py::test_a_monitor_that_is_killed_while_it_sends_never_tells_twice"
    ),
    "ducklake logs --role ROLE": (
        "unit/test_logs.py::test_lines_of_all_roles_and_services_come_in_their_order"
    ),
    "ducklake trace TABLE KEY": (
        "integration/test_same_word.py::test_a_row_is_traced_through_insert_update_and_delete"
    ),
    "ducklake failures": (
        "integration/test_postgres_export.py"
        "::test_commands_show_failing_rows_build_one_model_anew_and_write_a_file"
    ),
    "ducklake dead-letters list": ("crash/test_dead_letters.py::test_one_is_meant_by_its_address"),
    "ducklake dead-letters redrive": (
        "crash/test_dead_letters.py::test_a_type_that_was_mended_brings_them_back_at_their_offsets"
    ),
    "ducklake verify --against-source TABLE --repair": (
        "integration/test_reconciliation.py::test_a_repair_mends_everything_that_was_found"
    ),
    "docker compose --profile observability up --detach": (OPTIONAL),
    "docker compose exec grafana cat /run/ducklake/grafana/password": (OPTIONAL),
    "ducklake gc --older-than 0": f"{REPLAY}::test_a_lake_moves_to_an_empty_folder",
    "ducklake produce": ROTATED,
    "ducklake backup backups/before-upgrade": (
        "unit/test_old_lakes.py::test_a_backup_of_version_5_brings_its_dead_letters"
    ),
    "ducklake restore backups/monday --yes": f"{REPLAY}::test_a_machine_that_is_lost",
    "ducklake verify": f"{REPLAY}::test_a_lake_moves_to_an_empty_folder",
    "ducklake batch --once": f"{REPLAY}::test_a_lake_moves_to_an_empty_folder",
    "cp --archive": f"{REPLAY}::test_a_lake_moves_to_an_empty_folder",
    "ducklake config check": "unit/test_init.py::test_a_folder_becomes_a_valid_project",
    "ducklake plan": "e2e/test_init.py::test_a_plan_says_which_files_are_read_again",
    "ducklake up": ROTATED,
    "ducklake down": ROTATED,
    "cat old.pem new.pem > company.pem": ROTATED,
    "ALTER USER 'ducklake'@'%' IDENTIFIED BY '…' RETAIN CURRENT PASSWORD": ROTATED,
    "ALTER USER … DISCARD OLD PASSWORD": ROTATED,
    "ALTER ROLE ducklake PASSWORD '…'": ROTATED,
}
"""Each command of the page, in a block or within a sentence, and the test that runs it."""
CHANGES = {
    "MySQL": ROTATED,
    "Kafka": ROTATED,
    "PostgreSQL": ROTATED,
    "Connect's login": ROTATED,
    "SFTP": "unit/test_sftp_keys.py::test_a_new_host_key_is_known_before_the_server_shows_it",
    "The page": "unit/test_dashboard.py::test_another_address_needs_a_token_of_ones_own",
    "Certificates of a company's own authority": (
        "unit/test_certificates.py::test_the_systems_store_is_believed_and_not_only_a_list_of_its_own"
    ),
}
"""What the page says how to change, and the test that does."""


def steps() -> list[str]:
    """The commands of the page, each once."""
    text = PAGE.read_text(encoding="utf-8")
    found = [line for block in FENCE.findall(text) for line in block.splitlines()]
    found += INLINE.findall(re.sub(r"\s+", " ", FENCE.sub("", text)))
    return list(dict.fromkeys(found))


def test_every_command_of_the_page_has_a_test_that_runs_it() -> None:
    assert set(steps()) == set(STEPS)


def test_everything_that_is_to_be_changed_has_a_test_that_does() -> None:
    _, _, section = PAGE.read_text(encoding="utf-8").partition("\n## Change a password,")
    assert set(re.findall(r"^- \*\*(.+?)\*\*", section, re.MULTILINE)) == set(CHANGES)


@pytest.mark.parametrize("test", sorted({*STEPS.values(), *CHANGES.values()}))
def test_the_tests_are_there(test: str) -> None:
    file, _, name = test.partition("::")
    assert f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")
