"""Modules as functions of their weights: nets, heads, layouts in memory, the counting of operations."""
