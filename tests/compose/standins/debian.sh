#!/bin/sh
# What the stand-ins share beyond Debian's packages; run on the new tree, which is $1.
set -eu
ln -s python3 "$1/usr/bin/python"
printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' > "$1/etc/pip.conf"
chroot "$1" sh -eu <<'USERS'
groupadd --gid 998 mysql && useradd --system --uid 998 --gid mysql mysql
groupadd --gid 999 postgres && useradd --system --uid 999 --gid postgres postgres
useradd --uid 1000 appuser
mkdir -p /var/lib/kafka/data && chown appuser /var/lib/kafka/data
USERS
