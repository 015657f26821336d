"""Looking at logs: scores with confidence, tables in the terminal, pictures, the report. No torch."""
