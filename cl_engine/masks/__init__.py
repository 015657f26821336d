"""Shared parts of strategies that keep one network and add a small part to it for every task."""
