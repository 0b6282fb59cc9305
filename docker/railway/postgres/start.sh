#!/bin/sh
# The password of the project's role reaches docker/postgres/role.sh by the file that it reads.
set -eu
: "${DUCKLAKE_POSTGRES_PASSWORD:?set it to \${{secret(32)}} (docker/railway/variables.env)}"
mkdir -p /run/ducklake/postgres
printf %s "$DUCKLAKE_POSTGRES_PASSWORD" >/run/ducklake/postgres/password
chmod 0444 /run/ducklake/postgres/password
unset DUCKLAKE_POSTGRES_PASSWORD
exec docker-entrypoint.sh postgres
