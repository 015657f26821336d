"""The training loop, and who runs it."""
