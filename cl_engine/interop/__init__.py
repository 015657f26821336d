"""Rooms for guests: other libraries' streams and strategies here, ours there. Nothing else imports those libraries."""
