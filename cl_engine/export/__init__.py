"""Logs in the formats of other tools: one file each, whose name is the name on the command line."""
