"""Sweeps: sets of ordinary runs, on one machine or a cluster."""
