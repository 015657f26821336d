"""Tables and figures as they are printed: one function each, with label, title, axis and size arguments."""
