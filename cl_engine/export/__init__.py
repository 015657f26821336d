"""Logs for the tools of others: one file a format, the file's name is the name on the command line."""
