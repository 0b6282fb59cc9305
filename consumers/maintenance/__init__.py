"""Verify, backup, restore, and a rebuilt ledger."""
