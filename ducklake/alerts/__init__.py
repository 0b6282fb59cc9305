"""Tells who wants to know that something is wrong: once as it begins, and once as it ends."""
