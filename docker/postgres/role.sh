#!/bin/sh
# The first start of the database: the project's role may log in and make schemas, and owns these.
set -eu
psql --no-psqlrc --quiet -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\set password `cat /run/ducklake/postgres/password`
CREATE ROLE ducklake LOGIN PASSWORD :'password';
GRANT CREATE ON DATABASE techstore TO ducklake;
SQL
