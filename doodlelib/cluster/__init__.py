"""Prepare, train and sweep on a Ray cluster."""
