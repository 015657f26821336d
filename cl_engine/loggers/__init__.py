"""Writing logs, and what a person sees meanwhile."""
