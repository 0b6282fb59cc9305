"""Asks every service that the lake needs whether it is there, and set as the lake needs it."""
