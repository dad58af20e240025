"""Lockstep: many runs of one shape, trained as one stacked model."""
