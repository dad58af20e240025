"""Which metrics are better high; without torch, for the commands that train nothing."""

MORE_IS_BETTER = ("accuracy", "f1", "auroc", "r2")
"""The metrics of which more is better; of the loss and the others less is."""
