"""Figures about drawings and models."""
