"""Hot files become sealed ones; the files of old dates become few."""
