"""Kinds of streams, one file each; the file's name is the name in scenarios."""
