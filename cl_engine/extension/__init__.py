"""Runs made longer, or of more seeds: what is the same is taken over from a run there is, all else is computed."""
