"""The roles of a lake as services of systemd."""
