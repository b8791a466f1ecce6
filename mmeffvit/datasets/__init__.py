"""Data: the generator of the shapes dataset."""
