"""The process itself: reads the file on its standard input, writes one JSON array a line.

python -m producers.isolated.worker KIND OPTIONS < FILE

`["cells", number, [...]]` is a row of a workbook, `["row", {...}]` one of Parquet, `["bad",
number, [...], reason]` one of a workbook that is none, `["bad", reason]` one of Parquet, and
`["refused", what, remedy]` ends it.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import warnings

from producers.isolated.output import Refused, emit

MEMORY_BYTES = 320 * 1024 * 1024
TOO_LARGE = 9
"""Exit code: the limit of memory was reached."""


def main() -> int:
    """Read the file, within the limit; the exit code."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    kind, options = sys.argv[1], json.loads(sys.argv[2])
    try:
        with os.fdopen(os.dup(0), "rb") as stream:
            stream.seek(0)
            if kind == "parquet":
                from producers.isolated import parquet

                parquet.read(stream, options)
            else:
                from producers.isolated import workbook

                workbook.read(stream, options)
    except MemoryError:
        return TOO_LARGE
    except Refused as refused:
        emit("refused", *refused.args)
    except BrokenPipeError:
        os._exit(1)
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
