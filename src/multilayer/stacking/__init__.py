"""Networks of one shape trained as one stacked model: torch alone."""
