#!/bin/sh
# Run by the image before its server: the one host key that clients know, made once, kept in the volume.
set -eu
kept=/home/techstore/.host-key
mkdir -p "$kept" && chmod 700 "$kept"
[ -e "$kept/ssh_host_ed25519_key" ] || ssh-keygen -q -t ed25519 -N '' -f "$kept/ssh_host_ed25519_key"
rm -f /etc/ssh/ssh_host_*
cp "$kept/ssh_host_ed25519_key" /etc/ssh/ssh_host_ed25519_key
chmod 600 /etc/ssh/ssh_host_ed25519_key
ssh-keygen -l -f "$kept/ssh_host_ed25519_key.pub" # the pipeline's log has to show the same
