"""Files of the lake: where they lie, how they are written, and what their columns are."""
