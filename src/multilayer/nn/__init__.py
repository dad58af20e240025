"""Networks, activations, losses and metrics: torch alone."""
