"""Files on an SFTP server."""
