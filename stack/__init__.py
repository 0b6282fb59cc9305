"""The embedded stack: real services on loopback, started without Docker, Java or root."""
