"""What connectors of HTTP APIs share: bounded requests, logins, and exact answers."""
