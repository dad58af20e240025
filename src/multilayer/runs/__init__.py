"""Runs on disk: the run folder, its manifest, and its checkpoints."""
