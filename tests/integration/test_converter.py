"""The JSON that Connect writes for us is that of its own converter, byte for byte."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from lake.config import Config
from stack.downloads import cache_dir
from stack.jars import COMPILER, read_lock
from stack.tools import Tools

pytestmark = pytest.mark.stack
CHECK = Path(__file__).parents[1] / "converter" / "JsonTextCheck.java"


def test_rows_are_written_as_connects_own_converter_writes_them(
    stack_config: Config, tmp_path: Path
) -> None:
    tools = Tools.locate()
    [compiler] = [
        cache_dir() / "jars" / jar.name for jar in read_lock() if jar.artifact == COMPILER
    ]
    used = os.pathsep.join((tools.classpath, str(tools.converter)))
    words = [str(tools.java), "-jar", str(compiler), "-source", "17", "-target", "17", "-nowarn"]
    subprocess.run(
        [*words, "-proc:none", "-cp", used, "-d", str(tmp_path), str(CHECK)],
        check=True,
        timeout=300,
    )
    seed, rows = int.from_bytes(os.urandom(4)), 20_000
    path = os.pathsep.join((str(tmp_path), used))
    said = subprocess.run(
        [str(tools.java), "-cp", path, "ducklake.JsonTextCheck", str(seed), str(rows)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert said.stdout.splitlines()[-1] == f"equal: {rows}, direct: true", (seed, said.stdout)
