"""A module as a function of its weights: nets, heads, layouts in memory, the counting of operations."""
