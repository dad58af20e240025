"""Keeps from the user what Lightning says on every start and no user can act on."""

import logging
import warnings

KNOWN_WARNINGS = (
    # Lightning calls a part of torch that torch has since renamed.
    r".*isinstance\(treespec, LeafSpec\).*",
    # A small data set has few minibatches an epoch: the losses are logged each epoch anyway.
    r"The number of training batches .* is smaller than the logging interval",
    # torch's compiler imports a part of torch that torch has since deprecated.
    r"`torch.jit.script_method` is deprecated",
)


def quieten_lightning() -> None:
    """Hide Lightning's advice and the known warnings; its other warnings still come through."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in KNOWN_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
