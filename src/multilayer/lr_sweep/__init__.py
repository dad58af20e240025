"""Short trainings at many learning rates before the fit, and what they say."""
