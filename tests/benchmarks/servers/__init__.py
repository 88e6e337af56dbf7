"""The servers that are compared; each runs as its own process."""
