"""Time, memory and correctness of the package; not part of what is installed."""
