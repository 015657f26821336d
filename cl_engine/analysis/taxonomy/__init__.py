"""Taxonomies of tasks, from logged transfers: affinities, families, and whom to label for a budget."""
