"""Upkeep: parts of training that keep a net able to learn, one file each; any strategy wears them (``train.upkeep``)."""
