"""Other libraries' streams and strategies in this engine, and ours in theirs. Nothing else imports those libraries."""
