"""Heads of our own; one that extends a framework is registered only where it is installed."""
