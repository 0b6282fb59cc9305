"""The power goes at any moment of a commit, a compaction, a merged day, a rebuild: nothing is lost.

What the processes did is recorded as system calls; every state that the model of `power_loss.py`
allows after any of them is put into a folder, recovered as a starting worker and compactor do, and
looked at. `make test` takes a sample of the states, `make soak` all (DUCKLAKE_POWER_STATES=0).
"""

from __future__ import annotations

import multiprocessing
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.crash.power_disk import Disk, Entries
from tests.crash.power_lake import SCENARIOS
from tests.crash.power_loss import mark_of, some, states
from tests.crash.power_oracle import examine, quiet
from tests.crash.power_trace import Call, NotRecorded, calls, record, strace_is_missing

ROOT = Path(__file__).resolve().parents[2]
STATES = int(os.environ.get("DUCKLAKE_POWER_STATES", "80"))
SEED = os.environ.get("DUCKLAKE_SEED") or str(random.SystemRandom().randrange(1 << 32))
COMBINATIONS = 3
SLOW = pytest.mark.timeout(600 if STATES else 7200)


@pytest.fixture(scope="module")
def recorded() -> Iterator[tuple[Path, Path]]:
    """The trace, which is large, and the folder of the lakes."""
    if reason := strace_is_missing():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="power-") as name:
        lakes, trace = Path(name) / "lakes", Path(name) / "trace"
        lakes.mkdir()
        record([sys.executable, "-m", "tests.crash.power_lake", str(lakes)], trace, ROOT)
        yield trace, lakes


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context, initializer=quiet) as pool:
        yield pool


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for what is looked at: in memory if possible, since nothing of it must last."""
    in_memory = Path("/dev/shm")
    where = in_memory if os.access(in_memory, os.W_OK) else tmp_path_factory.mktemp("states")
    with tempfile.TemporaryDirectory(prefix="power-", dir=where) as name:
        yield Path(name)


@SLOW
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_power_cut_at_any_moment_loses_and_repeats_nothing(
    scenario: str,
    recorded: tuple[Path, Path],
    pool: ProcessPoolExecutor,
    memory: Path,
    record_property: Callable[[str, object], None],
) -> None:
    trace, lakes = recorded
    record_property("seed", SEED)
    print(f"DUCKLAKE_SEED={SEED}")
    chance = random.Random(f"{SEED} {scenario}")
    every = states(lakes / scenario, calls(trace, lakes / scenario), chance, COMBINATIONS)
    chosen = some(every, STATES, chance)
    print(f"{len(chosen)} of {len(every)} states")
    assert len(chosen) > 50
    wrong = [w for w in pool.map(partial(examine, folder=memory), chosen, chunksize=4) if w]
    assert not wrong, f"{len(wrong)} of {len(chosen)} states:\n" + "\n".join(wrong[:5])


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_is_recorded_is_all_that_was_done(scenario: str, recorded: tuple[Path, Path]) -> None:
    """Replayed without a crash, the calls make the folder that is really there."""
    trace, lakes = recorded
    root = lakes / scenario
    disk = Disk(root)
    for call in calls(trace, root):
        if mark_of(call) is None:
            disk.apply(call)
    real = {
        str(path.relative_to(root)): None if path.is_dir() else path.read_bytes()
        for path in root.rglob("*")
        if not path.name.endswith("-shm")
    }
    assert {path: content for path, (_, content) in disk.seen().items()} == real


# The model ---------------------------------------------------------------------------------------


def hexed(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


def call(name: str, *arguments: str | int, result: int = 0) -> Call:
    """A call as strace writes it: `3</a>` is a descriptor, `'x` a text, the rest as it is."""
    written = []
    for argument in map(str, arguments):
        number, bracket, path = argument.removesuffix(">").partition("<")
        if bracket:
            written.append(f"{number}<{hexed(path)}>")
        elif argument.startswith("'"):
            written.append(f'"{hexed(argument[1:])}"')
        else:
            written.append(argument)
    return Call(name, tuple(written), result)


def made(path: str, content: str, synced: bool) -> list[Call]:
    """A file that is written."""
    opened = call("openat", "AT_FDCWD</>", f"'{path}", "O_WRONLY|O_CREAT|O_TRUNC", "0666", result=3)
    written = call("write", f"3<{path}>", f"'{content}", len(content), result=len(content))
    sync = [call("fsync", f"3<{path}>")] if synced else []
    return [opened, written, *sync, call("close", f"3<{path}>")]


def synced(folder: str) -> list[Call]:
    return [
        call("openat", "AT_FDCWD</>", f"'{folder}", "O_RDONLY|O_DIRECTORY", result=4),
        call("fsync", f"4<{folder}>"),
        call("close", f"4<{folder}>"),
    ]


def left_by(*did: Call) -> list[dict[str, bytes | None]]:
    """The states that a crash at the end can leave."""
    settled = call("write", "1<pipe>", '\'@@["lake", true, {}]', 22, result=22)
    found: list[dict[str, bytes | None]] = []
    last = call("write", "1<pipe>", '\'@@["lake", false, {"end": 1}]', 30, result=30)
    for state in states(Path("/lake"), [settled, *did, last], random.Random(1), 20):
        if state.said:
            found.append(contents(state.entries))
    return found


def contents(entries: Entries) -> dict[str, bytes | None]:
    return {path: content for path, (_, content) in entries.items()}


def test_a_name_may_be_durable_before_its_content() -> None:
    rename = call("rename", "'/lake/a.new", "'/lake/a")
    unsynced = left_by(*made("/lake/a.new", "bytes", False), rename, *synced("/lake"))
    assert {state["a"] for state in unsynced} == {b"", b"by", b"bytes"}
    safe = left_by(*made("/lake/a.new", "bytes", True), rename, *synced("/lake"))
    assert safe == [{"a": b"bytes"}]


def test_a_rename_into_another_folder_is_two_changes() -> None:
    folders = [call("mkdir", f"'/lake/{name}", "0777") for name in ("one", "two")]
    before = [*folders, *made("/lake/one/a", "x", True), *synced("/lake/one"), *synced("/lake")]
    rename = call("rename", "'/lake/one/a", "'/lake/two/a")
    found = {frozenset(s) - {"one", "two"} for s in left_by(*before, rename)}
    assert found == {
        frozenset(),
        frozenset({"one/a"}),
        frozenset({"two/a"}),
        frozenset({"one/a", "two/a"}),
    }
    found = {frozenset(s) - {"one", "two"} for s in left_by(*before, rename, *synced("/lake/two"))}
    assert found == {frozenset({"two/a"}), frozenset({"one/a", "two/a"})}


def test_a_folder_without_a_durable_name_is_gone_with_all_that_is_in_it() -> None:
    inside = [*made("/lake/new/a", "x", True), *synced("/lake/new")]
    did = [call("mkdir", "'/lake/new", "0777"), *inside]
    assert sorted(map(len, left_by(*did))) == [0, 2]
    assert left_by(*did, *synced("/lake")) == [{"new": None, "new/a": b"x"}]


def test_a_way_of_writing_that_is_not_understood_is_an_error() -> None:
    disk = Disk(Path("/lake"))
    opened = call("openat", "AT_FDCWD</>", "'/lake/a", "O_RDWR|O_CREAT", "0666", result=3)
    disk.apply(opened)
    shared = ("NULL", 4096, "PROT_READ|PROT_WRITE", "MAP_SHARED", "3</lake/a>", 0)
    for strange in (call("mmap", *shared), call("fallocate", "3</lake/a>", 0, 0, 10)):
        with pytest.raises(NotRecorded):
            disk.apply(strange)
