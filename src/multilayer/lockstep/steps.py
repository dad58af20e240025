"""Running the steps of blocks: eagerly, or traced and compiled where the work ahead pays for it."""

import logging
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from multilayer.compilation import can_compile
from multilayer.lockstep.block import Block, Step

log = logging.getLogger(__name__)

# Measured on 2 CPU cores, 64-128-64-10: compiling takes 2 s where torch's cache on the disk knows
# the graph and 10 s where not, and a compiled step takes a third of the time.
SECONDS_TO_COMPILE = 8.0
SHARE_SAVED = 0.65

Run = Callable[..., Any]


class Runner:
    """Runs the steps of all blocks of a stack.

    choice: true or false to compile or not, or "auto".
    """

    def __init__(self, step: Step, choice: bool | str, device: torch.device) -> None:
        self.step = step
        self.choice = choice
        self.device = device
        self.compiled: dict[tuple[int, ...], Run | None] = {}
        self.seconds: dict[tuple[int, ...], float] = {}

    def run(self, block: Block, inputs: Sequence[Tensor], n_ahead: int) -> tuple[Tensor, Tensor]:
        """Train a block for S steps; returns losses `(S, K)` and outputs `(S, K, B, ...)`.

        inputs: features `(N, D)` and target `(N,)` of all rows, then for each step the rows of
            each member `(S, K, B)`, the numbers `(S, n_numbers, K)` and the keys `(S, K, 2)`.
        n_ahead: the steps of blocks of this shape until the end of the training.
        """
        n_steps, *shape = inputs[2].shape
        key = tuple(shape)
        if key not in self.compiled and self.is_worthwhile(key, n_ahead):
            self.compiled[key] = self.compile(block, inputs)
        run = self.compiled.get(key)
        start = perf_counter()
        losses, outputs = [], []
        for rows, numbers, keys in zip(*inputs[2:], strict=True):
            if run is None:
                loss, output = self.step(block, inputs[0][rows], inputs[1][rows], numbers, keys)
            else:
                loss, output = run(*block.tensors(), *inputs[:2], rows, numbers, keys)
            losses.append(loss)
            outputs.append(output)
        self.seconds[key] = (perf_counter() - start) / n_steps
        return torch.stack(losses), torch.stack(outputs)

    @property
    def has_compiled(self) -> bool:
        """Whether some of the steps were compiled."""
        return any(run is not None for run in self.compiled.values())

    def is_worthwhile(self, key: tuple[int, ...], n_ahead: int) -> bool:
        """Whether to compile for blocks and minibatches of a shape, decided by the work ahead."""
        if self.choice != "auto":
            return bool(self.choice)
        if key not in self.seconds:  # the first steps say how long one takes
            return False
        saved = SHARE_SAVED * self.seconds[key] * n_ahead
        return saved > SECONDS_TO_COMPILE and can_compile(self.device)

    def compile(self, block: Block, inputs: Sequence[Tensor]) -> Run:
        """The step for blocks and minibatches of one shape, as one compiled function."""
        from torch._inductor import standalone_compile

        start = perf_counter()
        example: list[Any] = [
            *block.tensors(),
            *inputs[:2],
            *(each[0] for each in inputs[2:]),
        ]
        graph = trace(self.step, block, example)
        compiled = standalone_compile(graph, example, dynamic_shapes="from_example_inputs")
        log.info(f"compiled the step of {len(block)} members in {perf_counter() - start:.1f} s")
        return compiled


def trace(step: Step, block: Block, example: Sequence[Tensor]) -> GraphModule:
    """The operations of a step as a graph over plain tensors.

    It holds the backward pass and the update too, so that running it needs neither autograd nor
    vmap, and the compiler sees one graph whatever Python the network is written in.
    """
    n_tensors = len(block.tensors())

    def run(*flat: Tensor) -> tuple[Tensor, Tensor]:
        features, target, rows, numbers, keys = flat[n_tensors:]
        own = block.with_tensors(flat[:n_tensors])
        return step(own, features[rows], target[rows], numbers, keys)

    step.traced = True
    graph = make_fx(run, tracing_mode="fake")(*example)
    step.traced = False
    return graph
