"""Foundations that know nothing of learning: rows in banks, trees, the memory of a state, files, text, random numbers."""
