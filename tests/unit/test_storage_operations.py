"""Files of the lake are changed through `lake/storage/`; docs/DESIGN.md lists the exceptions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lake.errors import DuckLakeError
from lake.storage.operations import exchange_folders, found_in, link, remove_file, rename

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("lake", "consumers", "batcher")
STORAGE = "lake/storage/"
OF_MODULES = {
    "os": {
        *("link", "symlink", "rename", "replace", "unlink", "remove", "rmdir", "removedirs"),
        *("mkdir", "makedirs", "open", "fsync", "fdatasync", "utime", "truncate", "ftruncate"),
        "chmod",
    },
    "shutil": {"rmtree", "move", "copy", "copy2", "copyfile", "copytree"},
    "tempfile": {"mkstemp", "mkdtemp", "NamedTemporaryFile", "TemporaryDirectory", "TemporaryFile"},
}
OF_PATHS = {
    *("unlink", "rename", "mkdir", "rmdir", "touch", "write_text", "write_bytes", "symlink_to"),
    *("hardlink_to", "chmod", "renameat2"),
}
ROW = re.compile(r"^\| `([^`]+)` calls `([^`]+)` \| ([^|]+) \|$", re.MULTILINE)


def _mode(call: ast.Call, position: int) -> str:
    """The mode with which a file is opened, where the call says it."""
    given = [k.value for k in call.keywords if k.arg == "mode"] + call.args[position : position + 1]
    found = [v.value for v in given if isinstance(v, ast.Constant) and isinstance(v.value, str)]
    return found[0] if found else ""


def _writes(mode: str) -> bool:
    return bool(re.fullmatch(r"[rwaxbt+]+", mode)) and bool(set(mode) & set("wax+"))


def operations_of(source: str) -> Iterator[str]:
    """The file operations that a module calls directly."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in OF_MODULES:
            wanted = OF_MODULES[node.module]
            yield from (f"{node.module}.{n.name}" for n in node.names if n.name in wanted)
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name):
            if node.func.id == "open" and _writes(_mode(node, 1)):
                yield "open"
        elif isinstance(node.func, ast.Attribute):
            yield from _method(node, node.func)


def _method(call: ast.Call, function: ast.Attribute) -> Iterator[str]:
    name = function.attr
    if isinstance(function.value, ast.Name) and function.value.id in OF_MODULES:
        if name in OF_MODULES[function.value.id]:
            yield f"{function.value.id}.{name}"
        return
    opened = name == "open" and _writes(_mode(call, 0))
    # A text's `replace` takes two arguments, a moment's takes names.
    replaced = name == "replace" and len(call.args) == 1 and not call.keywords
    if name in OF_PATHS or opened or replaced:
        yield name


def _excepted() -> dict[tuple[str, str], str]:
    text = (ROOT / "docs" / "DESIGN.md").read_text()
    return {(file, operation): reason for file, operation, reason in ROW.findall(text)}


def test_only_the_storage_changes_files_but_for_what_the_design_names() -> None:
    found = {
        (path.relative_to(ROOT).as_posix(), operation)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if not path.relative_to(ROOT).as_posix().startswith(STORAGE)
        for operation in operations_of(path.read_text())
    }
    excepted = _excepted()
    assert all(reason.strip() for reason in excepted.values())
    assert found - set(excepted) == set(), "call lake/storage/operations.py, or name the reason"
    assert set(excepted) - found == set(), "not called any more: take it out of docs/DESIGN.md"


@pytest.mark.parametrize(
    ("source", "operation"),
    [
        ("os.link(a, b)", "os.link"),
        ("from shutil import rmtree", "shutil.rmtree"),
        ("tempfile.mkstemp()", "tempfile.mkstemp"),
        ("(root / name).unlink(missing_ok=True)", "unlink"),
        ("staged.replace(final)", "replace"),
        ("path.open('ab')", "open"),
        ("path.open(mode='w')", "open"),
        ("open(path, 'r+')", "open"),
        ("libc.renameat2(-100, a, -100, b, 2)", "renameat2"),
    ],
)
def test_each_way_of_changing_a_file_is_seen(source: str, operation: str) -> None:
    assert list(operations_of(source)) == [operation]


@pytest.mark.parametrize(
    "source",
    [
        "text.replace('a', 'b')",
        "moment.replace(tzinfo=UTC)",
        "path.open('rb')",
        "open(path)",
        "tables.open(topic)",
        "os.getpid()",
    ],
)
def test_what_changes_no_file_is_left_alone(source: str) -> None:
    assert list(operations_of(source)) == []


# What the operations promise -------------------------------------------------------------------


def test_two_folders_change_places(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        (folder / f"of_{folder.name}").touch()
    try:
        exchange_folders(one, other)
    except DuckLakeError as error:
        pytest.skip(str(error))
    assert [path.name for path in one.iterdir()] == ["of_other"]
    assert [path.name for path in other.iterdir()] == ["of_one"]
    with pytest.raises(FileNotFoundError):
        exchange_folders(one, tmp_path / "missing")
    assert one.is_dir(), "nothing has changed"


def test_a_second_name_is_never_given_to_what_is_there(tmp_path: Path) -> None:
    old, there = tmp_path / "old", tmp_path / "there"
    old.write_text("old")
    there.write_text("there")
    with pytest.raises(FileExistsError):
        link(old, there)
    assert there.read_text() == "there"


def test_a_rename_takes_the_place_of_a_file_and_of_an_empty_folder_alone(tmp_path: Path) -> None:
    new, old, empty, full = (tmp_path / name for name in ("new", "old", "empty", "full"))
    new.write_text("new")
    old.write_text("old")
    rename(new, old)
    assert old.read_text() == "new" and not new.exists()
    empty.mkdir()
    full.mkdir()
    (full / "file").touch()
    rename(full, empty)
    assert (empty / "file").exists()
    full.mkdir()
    with pytest.raises(OSError, match="not empty"):
        rename(full, empty)


def test_what_another_process_removed_is_no_error(tmp_path: Path) -> None:
    remove_file(tmp_path / "gone")
    assert found_in(tmp_path / "gone", "*") == []
