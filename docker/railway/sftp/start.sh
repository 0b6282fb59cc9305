#!/bin/sh
# One user, whose folder is /upload; the volume holds it and the host key.
set -eu
: "${SFTP_PASSWORD:?set it to \${{secret(32)}} (docker/railway/variables.env)}"
export SFTP_USERS="techstore:$SFTP_PASSWORD:1001:100:upload"
unset SFTP_PASSWORD
exec /entrypoint
