"""Running the steps of blocks: eagerly, or traced and compiled where the work ahead pays for it."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from pathlib import Path

import torch
from torch import Tensor
from torch.fx import GraphModule

from multilayer.core.errors import first_line
from multilayer.core.text import counted
from multilayer.stacking.block import Block
from multilayer.stacking.library_build import LibraryBuild
from multilayer.stacking.step import Step
from multilayer.stacking.tracing import trace
from multilayer.stacking.workers import Workers
from multilayer.training.runtime import (
    WITHOUT_TIMING,
    can_compile,
    n_threads_at_most,
    n_threads_for,
    using_threads,
)

log = logging.getLogger(__name__)

# Compiling takes about 16 s, and 0.05 s where there is a library already. It saves 0.6 ms a step of
# one member, and as much again where a step is so large (measured on 2 CPU cores; see
# docs/guides/lockstep.md). It is estimated, not timed, and whether there is a library does not
# count: compiling changes the last digits of a step.
STEPS_WORTH_COMPILING = 6_000
_STEPS_WORTH_LOADING = 500
_WORK_THAT_DOUBLES_IT = 20_000_000

_SHARE_NOT_COMPILED = 1 / 32
"""Of the planned steps, those that are taken while the library is made."""

_MEMBERS_WORTH_A_THREAD = 8
"""Members of a block from which it pays to give it a thread."""

_MOST_BYTES_AT_ONCE = 2**22
"""Bytes of a block's weights, up to which several blocks train at once. A step takes five times as
much memory for each, and products of larger matrices divide well among threads."""

Shape = tuple[int, ...]
Run = Callable[..., Sequence[Tensor]]
Builds = dict[Path, LibraryBuild]
"""Libraries that are being made, by their files."""


class StepRunner:
    """Runs the steps of all blocks of a stack.

    Args:
        step: the step.
        choice: true or false to compile or not, or "auto".
        threads: how many CPU threads, or "auto".
        device: where the blocks are.
        ahead: what is being compiled for such a stack already. It is taken from there if it fits.
        say: tells the user of a compilation, which takes some seconds.

    Attributes:
        workers: the threads on which blocks are run side by side; see `share_threads`.
        compiled: the compiled steps in use, by the members of a block and the rows of a minibatch.
        pending: those that will be, each from a step of the stack on; see `use_compiled`.
    """

    def __init__(
        self,
        step: Step,
        *,
        choice: bool | str,
        threads: int | str,
        device: torch.device,
        ahead: Builds | None = None,
        say: Callable[[str], None] = log.info,
    ) -> None:
        self.step = step
        self.choice = choice
        self.device = device
        self.ahead: Builds = {} if ahead is None else ahead
        self.say = say
        self.threads = threads
        self.workers = Workers(step, 1, 1)
        self.compiled: dict[Shape, Run] = {}
        self.pending: dict[Shape, tuple[int, LibraryBuild]] = {}
        self.has_failed = False

    def block_size(self, n_members: int) -> int:
        """How many members each block of a stack has: as many blocks for each thread."""
        n_blocks, n_threads = ceil(n_members / self.step.most_members(self.device)), 1
        if self.device.type == "cpu":
            n_threads = n_threads_at_most(self.threads)
        even = n_threads * ceil(n_blocks / n_threads)
        n_blocks = max(n_blocks, min(even, n_members // _MEMBERS_WORTH_A_THREAD))
        return ceil(n_members / n_blocks)

    def share_threads(self, block: Block, n_blocks: int, n_rows: int) -> None:
        """Share the CPU's threads out to blocks, as they are now.

        Args:
            block: one of them.
            n_blocks: how many there are.
            n_rows: of a minibatch.
        """
        n_at_once, most = 1, n_threads_at_most(self.threads)
        if self.device.type == "cpu" and block.weights.nbytes <= _MOST_BYTES_AT_ONCE:
            n_at_once = min(most, n_blocks)
        n_threads = min(most // n_at_once, self.n_threads(block, (len(block), n_rows)))
        self.workers = Workers(self.step, n_at_once, n_threads)

    def n_not_compiled(self, block: Block, n_rows: int, n_steps: int, n_blocks: int) -> int:
        """How many steps a stack takes before the compiled one, by counts alone.

        They are few of those that are planned, since a sweep that finds the library in its file
        takes them, too: it gets the same bits. In long trainings they are as many as compiling
        pays from.

        Args:
            block: one of the stack's.
            n_rows: of a minibatch.
            n_steps: those that are planned.
            n_blocks: how many blocks take each.
        """
        key = len(block), n_rows
        most = STEPS_WORTH_COMPILING / (1 + work(block, key) / _WORK_THAT_DOUBLES_IT) / n_blocks
        return int(min(n_steps * _SHARE_NOT_COMPILED, most))

    def prepare(
        self,
        block: Block,
        features: Tensor,
        target: Tensor,
        n_rows: int,
        n_steps_left: int,
        first: int = 0,
    ) -> None:
        """Begin to compile, if it is worthwhile and not yet done.

        On the CPU another process compiles, and `use_compiled` takes up what it has made; on other
        devices it is done afterwards.

        Args:
            block: one of those whose steps are to be run.
            features: `(N, D)`, some rows.
            target: `(N,)`.
            n_rows: of each minibatch.
            n_steps_left: the steps of blocks of this shape until the end of the training.
            first: the step of the stack from which on the compiled one is used.
        """
        n_members = len(block)
        key = n_members, n_rows
        is_known = key in self.compiled or key in self.pending
        if is_known or not self.is_worthwhile(block, key, n_steps_left):
            return
        new = block.alive.new_zeros
        rows = new(key, dtype=torch.int64)
        minibatch = take_rows(features, rows), take_rows(target, rows)
        numbers = block.weights.new_zeros(len(self.step.coefficient_names), n_members)
        keys = new((n_members, 2), dtype=torch.int32)
        words = f"compiling the step of {counted(n_members, 'member')}, "
        words += f"for {counted(n_steps_left, 'step')} ahead"
        with self._going_on_without():
            out = torch.empty_like(block.weights)
            example = [*block.tensors(), out, *minibatch, numbers, keys]
            graph, outputs = trace_step(self.step, block, example)
            if self.device.type == "cpu":
                n_at_once = n_threads_at_most(self.threads)
                build = LibraryBuild(graph, example, outputs, n_at_once)
                build = self.ahead.pop(build.path, build)
                build.start()
                self.pending[key] = first, build
                if build.is_running():
                    self.say(f"{words}; it is used from step {first} on")
            else:
                self.say(words)
                self.compiled[key] = self._compile_here(graph, example)

    def use_compiled(self, n_done: int) -> None:
        """Use those compiled steps from now on whose time has come; wait for them.

        Args:
            n_done: the steps that the stack has taken.
        """
        for key, (first, build) in [*self.pending.items()]:
            if first > n_done or self.has_failed:
                continue
            if build.is_running():
                self.say("waiting for the compiled step")
            try:
                with self._going_on_without():
                    self.compiled[key] = build.result()
            finally:
                build.close()
                del self.pending[key]

    def close_ahead(self) -> None:
        """End what is being compiled ahead and does not fit this stack."""
        for build in self.ahead.values():
            build.close()
        self.ahead.clear()

    def close(self) -> None:
        """End what is being compiled."""
        for _, build in self.pending.values():
            build.close()

    def run(self, step: Step, block: Block, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Train a block for S steps.

        Args:
            step: what `workers.for_each_block` gives to its function.
            block: the block.
            inputs: features `(N, D)` and target `(N,)` of all rows, then for each step the rows of
                each member `(S, K, B)`, the numbers `(S, n_numbers, K)` and the keys `(S, K, 2)`.

        Returns:
            Losses `(S, K)` and outputs `(S, K, B, ...)`.
        """
        key = tuple(inputs[2].shape[1:])
        home, found = block.weights, list[Sequence[Tensor]]()
        spare = torch.empty_like(home)
        try:
            is_shared = self.workers.n_at_once > 1
            n_threads = self.workers.n_threads if is_shared else self.n_threads(block, key)
            with using_threads(n_threads):
                for each in zip(*inputs[2:], strict=True):
                    found.append(self.one(step, key, block, spare, *inputs[:2], *each))
                    spare = block.take_over(spare)
        finally:
            if block.weights is not home:
                block.weights = home.copy_(block.weights)
        losses, outputs = zip(*found, strict=True)
        return torch.stack(losses), torch.stack(outputs)

    def n_threads(self, block: Block, key: Shape) -> int:
        """How many CPU threads a step of a shape uses, if no other block runs meanwhile."""
        if self.device.type != "cpu":
            return 1
        return n_threads_for(self.threads, work(block, key), len(block))

    def one(
        self,
        step: Step,
        key: Shape,
        block: Block,
        out: Tensor,
        features: Tensor,
        target: Tensor,
        rows: Tensor,
        numbers: Tensor,
        keys: Tensor,
    ) -> Sequence[Tensor]:
        """One step; returns losses `(K,)` and outputs `(K, B, ...)`."""
        minibatch = take_rows(features, rows), take_rows(target, rows)
        if key in self.compiled:
            return self.compiled[key](*block.tensors(), out, *minibatch, numbers, keys)
        return step(block, out, *minibatch, numbers, keys)

    def is_worthwhile(self, block: Block, key: Shape, n_steps_left: int) -> bool:
        """Whether to compile for blocks and minibatches of a shape, decided by the work ahead."""
        if not self.choice:
            return False
        n = n_steps_left * (1 + work(block, key) / _WORK_THAT_DOUBLES_IT)
        is_enough = n >= STEPS_WORTH_COMPILING
        if self.choice is True:  # for an epoch's smaller last minibatch it may not pay
            is_enough = not (self.compiled or self.pending) or n >= _STEPS_WORTH_LOADING
        return is_enough and can_compile(self.device)

    def skip_reason(self) -> str | None:
        """Why nothing was compiled, at the end of the training; None where something was."""
        if self.compiled:
            return None
        if not self.choice:
            return None if self.has_failed else "not compiled: compile=false"
        if not can_compile(self.device):
            return "not compiled: there is no C++ compiler"
        if self.pending:
            return "not compiled: the training ended before its compiled steps"
        return (
            "not compiled: too few steps for it to pay; if you run more sweeps like this one, "
            "compile=true is faster from the second on"
        )

    @contextmanager
    def _going_on_without(self) -> Iterator[None]:
        """Go on without compiling where that fails.

        It needs more than can be checked beforehand, such as a compiler that knows the processor.
        """
        try:
            yield
        except Exception as error:
            self.say(f"compiling failed, and the training goes on without: {first_line(error)}")
            self.choice, self.has_failed = False, True
            self.close()

    def _compile_here(self, graph: GraphModule, example: Sequence[Tensor]) -> Run:
        """A graph as a function that this process compiles."""
        from torch._inductor import standalone_compile

        with torch.autocast(self.device.type, enabled=False):  # its casts are in the graph
            run: Run = standalone_compile(
                graph,
                [*example],
                dynamic_shapes="from_example_inputs",
                options={"config_patches": WITHOUT_TIMING},
            )
        return run


def work(block: Block, key: Shape) -> int:
    """Parameters times rows of a minibatch, of all members of a block together."""
    return block.weights.numel() * key[-1]


def take_rows(tensor: Tensor, rows: Tensor) -> Tensor:
    """`tensor[rows]` of rows `(K, B)`, in half the time."""
    return tensor.index_select(0, rows.flatten()).view(*rows.shape, *tensor.shape[1:])


def trace_step(
    step: Step, block: Block, example: Sequence[Tensor]
) -> tuple[GraphModule, Sequence[Tensor]]:
    """The operations of a step as a graph over plain tensors, and what it returned for an example.

    The graph holds the backward pass and the update too, so that running it needs neither autograd
    nor vmap, and the compiler sees one graph whatever Python the network is written in.
    """
    n = len(block.tensors())

    def run(*flat: Tensor) -> tuple[Tensor, Tensor]:
        return step(block.with_tensors(flat[:n]), *flat[n:])

    copies = [each.clone() for each in example[: n + 1]]  # what a step changes
    step.traced = True
    try:
        return trace(run, [*copies, *example[n + 1 :]])
    finally:
        step.traced = False
