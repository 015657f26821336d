"""Targets: what a task may ask for, one file each; the file's name is the target's."""
