"""`python -m techstore`: write docker/mysql/init.sql and docker/sftp/ anew."""

from pathlib import Path

from techstore.generate import write

if __name__ == "__main__":
    write(Path(__file__).parents[1] / "docker")
