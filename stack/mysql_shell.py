"""Ask the embedded MySQL server where no `mysql` program is installed.

python -m stack.mysql_shell CREDENTIALS_FILE DATABASE STATEMENT
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pymysql


def main(arguments: Sequence[str]) -> int:
    """Print the answer, columns divided by tabs."""
    if len(arguments) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    credentials, database, statement = arguments
    try:
        connection = pymysql.connect(read_default_file=credentials, database=database)
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            print(*(column[0] for column in cursor.description or ()), sep="\t")
            for row in cursor:
                print(*row, sep="\t")
            connection.commit()
    except pymysql.MySQLError as error:
        print(error.args[-1], file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
