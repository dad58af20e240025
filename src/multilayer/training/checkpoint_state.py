"""What Lightning puts into a checkpoint, mended: no minibatch lost, no more saved than is meant."""

from typing import Any

from torch import Tensor, nn


def count_minibatches(checkpoint: dict[str, Any]) -> None:
    """Let our minibatches count as given where they were trained on.

    After Ctrl-C or an error within a step, one was given that the weights have not seen; a run that
    is resumed would pass over it.
    """
    loop = checkpoint.get("loops", {}).get("fit_loop")
    if loop:
        n_trained = loop["epoch_loop.batch_progress"]["current"]["processed"]
        for state in loop["state_dict"].get("combined_loader", []):
            if "n_given" in state:
                state["n_given"] = n_trained


def keep_own_storage(checkpoint: dict[str, Any]) -> None:
    """Save of weights and the optimizer's state what is theirs.

    In a stack of lockstep's they are parts of a larger storage, all of which would be saved.
    """
    weights = checkpoint["state_dict"]
    weights.update({name: with_own_storage(value) for name, value in weights.items()})
    for optimizer in checkpoint.get("optimizer_states", []):
        optimizer["state"] = {
            parameter: {name: with_own_storage(value) for name, value in own.items()}
            for parameter, own in optimizer["state"].items()
        }


def copy_of(module: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights and buffers, on their device."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def with_own_storage(value: Any) -> Any:
    """A tensor, copied where it is a part of a larger one; anything else as it is."""
    is_part = isinstance(value, Tensor) and value.untyped_storage().nbytes() > value.nbytes
    return value.clone() if is_part else value
