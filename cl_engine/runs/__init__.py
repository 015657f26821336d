"""A run on this machine: its folder, options, plug-ins, signals, limits."""
