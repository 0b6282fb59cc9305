"""`ducklake` as a container's first process: `python -m ducklake.cli.container`.

`restart: on-failure` starts again whatever ends with another code than 0. A process that another
one has replaced must stay ended, else the two would replace each other for ever.
"""

from __future__ import annotations

import sys

from ducklake.cli.app import main
from ducklake.exit_codes import FENCED


def run() -> None:
    """Run the command line; where another process took over, say so and end as if all were well."""
    try:
        main()
    except SystemExit as end:
        if end.code != FENCED:
            raise
        print("ducklake: replaced, so this container is not started again", file=sys.stderr)
        sys.exit(0)


if __name__ == "__main__":
    run()
