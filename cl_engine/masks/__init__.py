"""What strategies share that keep one network and add small parts to it for every task."""
