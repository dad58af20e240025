"""The configs of a sweep's jobs: composed by Hydra, or made from one another."""
