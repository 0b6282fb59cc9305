"""What a producer holds in memory is bounded, and does not begin with what it never uses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

_HELD = """
import sys
from producers.files.reading import FileForm, file_rows
from producers.formats import FORMATS

def anonymous():
    status = open("/proc/self/status").read()
    return int(status.partition("RssAnon:")[2].split()[0])

form = FileForm(FORMATS[".csv"], "", FORMATS[".csv"].options(), (), frozenset())
rows = file_rows(form, open(sys.argv[1], "rb"), 0)
next(rows)
before = anonymous()
held = [row.encoded for row in rows]
print((anonymous() - before) // 1024)
"""
_UNUSED = """
import sys
import ducklake.cli.app, ducklake.cli.configuration, producers.runner, producers.sftp.connector
print(*sorted({"pandas", "duckdb", "dlt"} & sys.modules.keys()))
"""


def said(script: str, *arguments: str) -> str:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_row_that_is_held_takes_no_more_room_than_it_has(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,name\n" + b"1,Audio\n" * 20_000)
    # 27 bytes of JSON each; orjson's own results would take 80 MB.
    assert int(said(_HELD, str(path))) < 12


def test_a_producer_of_files_loads_no_library_that_it_does_not_use() -> None:
    assert said(_UNUSED) == ""


def test_a_batch_is_let_go_before_the_next_one_is_read() -> None:
    import gc
    import threading
    import weakref
    from collections.abc import Iterator
    from typing import Any

    from lake.processes.heartbeat import SILENT
    from producers.base import Batch
    from producers.source_loop import SourceLoop

    class Held(list[Any]):
        """Records of which a weak reference can be had."""

    alive: list[int] = []

    class Source:
        name, writes_records = "s", True
        source = SimpleNamespace(tables={})

        def poll(self, cursors: Any) -> Iterator[Batch]:
            seen: list[Any] = []
            for _ in range(3):
                gc.collect()
                alive.append(sum(records() is not None for records in seen))
                records = Held(["a record"])
                seen.append(weakref.ref(records))
                batch = Batch("t", "u", {}, records)
                del records
                yield batch
                del batch

        def table_states(self) -> list[Any]:
            return []

        troubles = table_states

        def settled(self) -> bool:
            return True

        def close(self) -> None:
            pass

    class Writer:
        usable = True

        def view(self) -> dict[str, Any]:
            return {}

        def write(self, batch: Batch) -> None:
            pass

    class Limits:
        def admitted(self, batches: Iterator[Batch]) -> Iterator[Batch]:
            from producers.reject_limits import RejectLimits

            made = object.__new__(RejectLimits)
            made._limits, made._sent, made._sent_bytes = {}, {"t": 0}, {"t": 0}  # type: ignore[assignment]
            return made.admitted(batches)

    made: Any = SourceLoop("s", Source, Writer, SILENT, lambda t, n: None, Limits())  # type: ignore[arg-type]
    made.run(threading.Event(), once=True)
    assert alive == [0, 0, 0]
