#!/bin/sh
# Stands in for atmoz/sftp: its users.conf, its scripts in /etc/sftp.d, a real OpenSSH server.
set -eu
IFS=: read -r user password uid gid folder < /etc/sftp/users.conf
useradd --no-user-group --non-unique --uid "$uid" --gid "$gid" "$user" 2>/dev/null || true
mkdir -p "/home/$user/$folder" /run/sshd
chown root:root "/home/$user"
chmod 755 "/home/$user"
echo "$user:$password" | chpasswd
for script in /etc/sftp.d/*; do "$script"; done
cat > /etc/ssh/sshd_config <<'CONFIG'
HostKey /etc/ssh/ssh_host_ed25519_key
UseDNS no
PermitRootLogin no
X11Forwarding no
AllowTcpForwarding no
Subsystem sftp internal-sftp
ForceCommand internal-sftp
ChrootDirectory %h
CONFIG
exec /usr/sbin/sshd -D -e
