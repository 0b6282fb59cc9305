"""Benchmarks: each compares in one run, prints progress to standard error and one JSON line."""
