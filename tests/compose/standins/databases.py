"""Stands in for the entry points of the images mysql and postgres: a first start, then the server.

Honours just what docker-compose.yml relies on: user, database and passwords from files, the
scripts in /docker-entrypoint-initdb.d, no TCP before the data are there. The servers are real.
"""

import os
import pwd
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

SCRIPTS = Path("/docker-entrypoint-initdb.d")


def secret(name: str) -> str:
    return Path(os.environ[f"{name}_FILE"]).read_text()


def become(user: str, *folders: Path) -> None:
    entry = pwd.getpwnam(user)
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        os.chown(folder, entry.pw_uid, entry.pw_gid)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.environ["HOME"] = "/tmp"


def until(answers: Callable[[], int]) -> None:
    deadline = time.monotonic() + 60
    while answers():
        if time.monotonic() > deadline:
            sys.exit("the server does not start")
        time.sleep(0.2)


def mysql(options: list[str]) -> None:
    data, socket = Path("/var/lib/mysql"), "/tmp/mysql.sock"
    passwords = {name: secret(name) for name in ("MYSQL_ROOT_PASSWORD", "MYSQL_PASSWORD")}
    become("mysql", data)
    os.environ["LD_LIBRARY_PATH"] = "/opt/mysql/bin"
    server = ["/opt/mysql/bin/mysqld", "--no-defaults", "--basedir=/opt/mysql", f"--datadir={data}"]
    # the version at hand is 8.0.15, whose Connector/J needs no TLS with this plugin
    server += ["--default-authentication-plugin=mysql_native_password", "--mysqlx=OFF"]
    server += ["--innodb-use-native-aio=OFF", f"--socket={socket}", *options]
    if not (data / "loaded").exists():
        subprocess.run([*server, "--initialize-insecure"], check=True)
        first = subprocess.Popen([*server, "--skip-networking"])
        client = ["mysql", "--no-defaults", f"--socket={socket}", "--user=root"]
        until(lambda: subprocess.run([*client, "-e", "SELECT 1"], capture_output=True).returncode)
        user, database = os.environ["MYSQL_USER"], os.environ["MYSQL_DATABASE"]
        made = (
            f"CREATE DATABASE {database};"
            f"CREATE USER '{user}'@'%' IDENTIFIED BY '{passwords['MYSQL_PASSWORD']}';"
            f"GRANT ALL ON {database}.* TO '{user}'@'%';"
        )
        subprocess.run(client, input=made, text=True, check=True)
        for script in sorted(SCRIPTS.glob("*.sql")):
            with script.open() as text:
                subprocess.run([*client, database], stdin=text, check=True)
        root = f"ALTER USER root@localhost IDENTIFIED BY '{passwords['MYSQL_ROOT_PASSWORD']}';"
        subprocess.run(client, input=root, text=True, check=True)
        first.terminate()
        first.wait()
        (data / "loaded").touch()
    os.execv(server[0], server)


def postgres(options: list[str]) -> None:
    data, tools = Path("/var/lib/postgresql/18/docker"), "/opt/postgres/bin"
    user, database = os.environ["POSTGRES_USER"], os.environ["POSTGRES_DB"]
    password = secret("POSTGRES_PASSWORD")
    become("postgres", data.parent.parent, data.parent, data)
    server = [f"{tools}/postgres", "-D", str(data), "-k", "/tmp", "-c", "listen_addresses=*"]
    if not (data / "loaded").exists():
        file = Path("/tmp/password")
        file.write_text(password)
        make = [f"{tools}/initdb", "-D", str(data), "-U", user, f"--pwfile={file}"]
        subprocess.run([*make, "--auth=scram-sha-256", "--encoding=UTF8"], check=True)
        file.unlink()
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all all scram-sha-256\n")
        first = subprocess.Popen([*server, "-c", "listen_addresses="])
        os.environ["PGPASSWORD"] = password
        client = [f"{tools}/psql", "-h", "/tmp", "-U", user, "-d", "postgres", "-c"]
        until(lambda: subprocess.run([*client, "SELECT 1"], capture_output=True).returncode)
        subprocess.run([*client, f"CREATE DATABASE {database}"], check=True)
        os.environ["PGHOST"] = "/tmp"
        for script in sorted(SCRIPTS.glob("*.sh")):
            subprocess.run([script], check=True)
        first.terminate()
        first.wait()
        (data / "loaded").touch()
    os.execv(server[0], [*server, *options])


{"mysql": mysql, "postgres": postgres}[sys.argv[1]](sys.argv[2:])
