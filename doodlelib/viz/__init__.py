"""Drawings as pictures, plots, animations and files."""
