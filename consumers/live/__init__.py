"""Figures of the shop while they happen; the lake knows nothing of them and needs none of them."""
