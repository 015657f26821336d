"""Writers of logs, and the progress that a person sees meanwhile."""
