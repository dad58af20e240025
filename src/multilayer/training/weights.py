"""The weights and buffers of a module: copying them, and having others in place for a while."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn


def copy_weights(module: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights and buffers, on their device."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


@contextmanager
def holding(module: nn.Module, weights: Mapping[str, Tensor] | None) -> Iterator[None]:
    """Within it the module has other weights, `(1, ...)` each, if there are any."""
    if not weights:
        yield
        return
    current = copy_weights(module)
    module.load_state_dict({name: each[0] for name, each in weights.items()})
    try:
        yield
    finally:
        module.load_state_dict(current)
