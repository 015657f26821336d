"""Many experiments as one command: what to run, where, and what became of it. See docs/sweeps.md."""
