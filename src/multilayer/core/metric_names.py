"""What is to be known of metrics without torch, for the commands that train nothing."""

MORE_IS_BETTER = ("accuracy", "f1", "auroc", "r2")
"""The metrics of which more is better; of the loss and the others less is."""

NEEDED = {
    "auroc": "it needs rows of two classes",
    "f1": "it needs a row of class 1, or one that is predicted to be",
    "r2": "it needs two rows whose targets differ",
}
"""What a metric needs to be defined, where it may not be."""
