"""Sweeps: many runs of one multirun."""
