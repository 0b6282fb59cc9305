#!/bin/sh
# Run by the SFTP image before its server: the one host key that clients know, kept in a volume.
set -eu
rm -f /etc/ssh/ssh_host_*
cp /etc/sftp/ssh_host_ed25519_key /etc/ssh/ssh_host_ed25519_key
chmod 600 /etc/ssh/ssh_host_ed25519_key
