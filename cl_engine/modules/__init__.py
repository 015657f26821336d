"""Networks divided into modules, a library of them, and tasks as paths through it."""
