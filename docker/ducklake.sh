#!/bin/sh
# The command `ducklake` of the image. Passwords come from files that the service `init` made, so
# that `docker inspect` shows none; each role sees those that it needs. exec: the program itself
# gets the signals.
set -eu
export_password() {
    file="/run/ducklake/$1/password"
    if [ -r "$file" ]; then
        export "$2=$(cat "$file")"
    fi
}
export_password mysql DUCKLAKE_CONNECTIONS__SHOP_DB__PASSWORD
export_password sftp DUCKLAKE_CONNECTIONS__SUPPLIERS__PASSWORD
export_password postgres DUCKLAKE_POSTGRES_PASSWORD
export_password dashboard DUCKLAKE_DASHBOARD_TOKEN
export_password metrics DUCKLAKE_METRICS__TOKEN
export_password connect DUCKLAKE_SERVICES__CONNECT__PASSWORD
exec python -m ducklake.cli.container "$@"
