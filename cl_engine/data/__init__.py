"""What arrives in a stream, and the files it comes from."""
