"""Metrics of answers, one file each: the file's name is the name in ``agenda.metrics``."""
