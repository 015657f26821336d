"""Following a running run from its log alone."""
