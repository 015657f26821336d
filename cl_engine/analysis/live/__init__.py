"""Following a run that goes on, from its log alone."""
