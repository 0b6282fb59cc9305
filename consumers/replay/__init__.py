"""Reading topics again: to verify and fill the lake, or to build a table anew."""
