#!/bin/sh
# Options as in docker-compose.yml; the data lie in a folder below the volume's, which holds lost+found.
set -eu
exec docker-entrypoint.sh mysqld \
    --datadir=/var/lib/mysql/data \
    --server-id=1 \
    --log-bin=binlog \
    --binlog-row-metadata=FULL \
    --gtid-mode=ON \
    --enforce-gtid-consistency=ON \
    --binlog-expire-logs-seconds=604800 \
    --character-set-server=utf8mb4 \
    --default-time-zone=+00:00 \
    --innodb-buffer-pool-size=128M \
    --max-allowed-packet=64M
