"""The outputs of an epoch, kept until its metrics are computed."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

KEPT_BYTES = 2**25
"""Bytes of outputs and targets that are kept of an epoch which may not fit into memory."""

UNFINISHED_EPOCH = "unfinished_epoch"
"""The key in a checkpoint of the outputs of an epoch that it interrupts."""

_MINIBATCHES_A_PACK, _BYTES_A_PACK = 4096, 2**21
"""When minibatches are concatenated: each takes 2 kB besides its values, and many small tensors
that stay fragment the memory."""


class EpochOutputs:
    """The network's outputs for the minibatches of an epoch, kept on their device until its end.

    Args:
        kept_bytes: about how many bytes of outputs and targets are kept, those of the last rows;
            None keeps all. The losses of all rows are kept.
    """

    def __init__(self, kept_bytes: int | None = None) -> None:
        self.kept_bytes = kept_bytes
        self.losses: list[Tensor] = []
        self.weights: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.targets: list[Tensor] = []
        self.has_news = False
        self.n_minibatches = 0
        self.n_packs = 0
        self.n_bytes_loose = 0

    def add(
        self, loss: Tensor, output: Tensor, target: Tensor, weight: Tensor | None = None
    ) -> None:
        """Keep a minibatch; no value is read, so that a GPU need not wait.

        Args:
            loss: the mean loss, a scalar.
            output: the network's output, one row for each row of the minibatch.
            target: the targets.
            weight: the divisor of the mean loss, a scalar; see `losses.total_weight`. None for the
                number of rows.
        """
        self.has_news = True
        self.n_minibatches += 1
        self.losses.append(loss.detach())
        if weight is None:
            weight = torch.tensor(len(target), device=loss.device)
        self.weights.append(weight)
        self.outputs.append(output.detach())
        self.targets.append(target)
        self.n_bytes_loose += output.nbytes + target.nbytes
        if self.n_bytes_loose > _BYTES_A_PACK or len(self.losses) >= _MINIBATCHES_A_PACK:
            self.pack()

    def pack(self) -> None:
        """Concatenate the minibatches since the last pack, and drop the first rows if too many."""
        self.losses, self.weights = [self.mean_loss()], [torch.stack(self.weights).sum()]
        for values in (self.outputs, self.targets):
            values[self.n_packs :] = [torch.cat(values[self.n_packs :])]
        self.n_packs, self.n_bytes_loose = self.n_packs + 1, 0
        sizes = [a.nbytes + b.nbytes for a, b in zip(self.outputs, self.targets, strict=True)]
        while self.kept_bytes is not None and sum(sizes[1:]) >= self.kept_bytes:
            del sizes[0], self.outputs[0], self.targets[0]
            self.n_packs -= 1

    def state_dict(self, n_minibatches: int) -> dict[str, Any]:
        """The first minibatches of the epoch, for its checkpoint.

        Empty if there are none, or if they cannot be told apart from later ones.
        """
        n_loose = len(self.outputs) - self.n_packs
        n_later = self.n_minibatches - n_minibatches
        if not 0 <= n_later <= n_loose or n_later == self.n_minibatches:
            return {}
        kept = len(self.outputs) - n_later
        state: dict[str, Any] = {"n_minibatches": n_minibatches, "n_packs": self.n_packs}
        for name in ("losses", "weights"):
            values = getattr(self, name)
            state[name] = torch.stack(values[: len(values) - n_later])
        for name in ("outputs", "targets"):
            values = getattr(self, name)
            loose = values[self.n_packs : kept]
            state[name] = [*values[: self.n_packs], *([torch.cat(loose)] if loose else [])]
        return state

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on with the minibatches of a checkpoint, on a device."""
        self.n_minibatches, self.n_packs = int(state["n_minibatches"]), int(state["n_packs"])
        self.losses = [*state["losses"].to(device).unbind()]
        self.weights = [*state["weights"].to(device).unbind()]
        self.outputs = [each.to(device) for each in state["outputs"]]
        self.targets = [each.to(device) for each in state["targets"]]
        loose = (*self.outputs[self.n_packs :], *self.targets[self.n_packs :])
        self.n_bytes_loose = sum(each.nbytes for each in loose)
        self.has_news = True

    def mean_loss(self) -> Tensor:
        """The mean loss over the rows, a scalar."""
        return weighted_mean(torch.stack(self.losses), torch.stack(self.weights))


def weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """The mean of losses over minibatches, `(n, ...)` to `(...)`; a weight of 0 excludes a loss."""
    return (losses.where(weights != 0, 0) * (weights / weights.sum(dim=0))).sum(dim=0)
