"""Streams and sources, and the files that data come from."""
