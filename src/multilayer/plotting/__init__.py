"""Figures: their style, and those of a run."""
