#!/bin/sh
# The command `ducklake` of the image. Passwords come from files that the service `init` made, so
# that `docker inspect` shows none. exec: the program itself gets the signals.
set -eu
for name in MYSQL POSTGRES SFTP; do
    file="/run/ducklake/$(echo "$name" | tr '[:upper:]' '[:lower:]')_password"
    if [ -r "$file" ]; then
        export "DUCKLAKE_${name}_PASSWORD=$(cat "$file")"
    fi
done
exec python -m ducklake.cli.container "$@"
