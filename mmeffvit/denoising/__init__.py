"""Restorers for images and video, with their data, losses and metrics."""
