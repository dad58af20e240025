"""Who is in which slot of which block, and how members move together when some have left."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from multilayer.stacking.block import Block, Layout
from multilayer.stacking.dropout import draw_keys
from multilayer.training.task_model import TaskModel


class SlotMember(Protocol):
    """What slots need of a member.

    Attributes:
        task_model: its network; while it has a slot, its weights are those of the slot.
        dropout_keys: what its masks of dropout are drawn from.
        step: its optimizer steps so far.
        slots, k: the block that it is in, and its place there.
    """

    task_model: TaskModel
    dropout_keys: np.random.Generator
    step: int
    slots: Any
    k: int

    def order(self) -> Tensor:
        """The order of the rows in the epoch that begins, `(n_rows,)`."""


Member = TypeVar("Member", bound=SlotMember)


@dataclass(eq=False)
class BlockSlots(Generic[Member]):
    """A block, and who is in its slots: a member, or None where one has left.

    Attributes:
        layout: of the block's weights.
        order: the rows of an epoch, `(K, n_rows)`.
        losses: of the minibatches of this epoch so far, `(S, K)` each.
        outputs: of the rows of an epoch, `(K, n_rows, ...)`. It stays from epoch to epoch: made
            anew each time between the larger tensors of a step, such leave holes in the memory.
    """

    block: Block
    members: list[Member | None]
    layout: Layout
    order: Tensor = field(default_factory=lambda: torch.empty(0))
    losses: list[Tensor] = field(default_factory=list)
    outputs: Tensor | None = None

    def __post_init__(self) -> None:
        self._settle(range(len(self.members)))

    def occupied(self) -> list[tuple[int, Member]]:
        """The slots that are taken, and by whom."""
        return [(k, member) for k, member in enumerate(self.members) if member is not None]

    def free(self) -> list[int]:
        """The slots where nobody is."""
        return [k for k, member in enumerate(self.members) if member is None]

    def members_or_filler(self) -> list[Member]:
        """A member for each slot; a free one does what the first one does."""
        first = self.occupied()[0][1]
        return [member or first for member in self.members]

    def views(self) -> dict[str, Tensor]:
        """All weights, buffers and the like of the block, `(K, ...)`, by their names."""
        return {**self.layout.split(self.block.weights), **self.block.rest}

    def _settle(self, ks: Iterable[int]) -> None:
        """Make the weights and buffers of the networks in some slots views of these."""
        views = self.views()
        for k in ks:
            member = self.members[k]
            if member is not None:
                member.slots, member.k = self, k
                bind(member.task_model, {name: each[k] for name, each in views.items()})

    def take(self, k: int, member: Member, source: Block, place: int) -> None:
        """Take a member into slot `k`, with the tensors that it has in another block."""
        self.block.move(source, place, k)
        self.members[k] = member
        self._settle([k])

    def begin_epoch(self, n_rows: int) -> None:
        """Draw each member's order of the rows, of which it takes the first `n_rows`."""
        orders = {member: member.order()[:n_rows] for _, member in self.occupied()}
        rows = [orders[member] for member in self.members_or_filler()]
        self.order = torch.stack(rows).to(self.block.weights.device)
        self.losses = []

    def dropout_keys(self, n: int) -> Tensor:
        """The keys of n steps' masks of dropout, `(n, K, 2)` int32, each member's own."""
        own = {member: draw_keys(member.dropout_keys, n) for _, member in self.occupied()}
        keys = [own[member] for member in self.members_or_filler()]
        return torch.stack(keys, dim=1).to(self.block.weights.device)

    def keep_outputs(self, outputs: Tensor, start: int, n_rows: int) -> None:
        """Keep the outputs of some minibatches until the end of the epoch.

        Args:
            outputs: `(K, S, B, ...)`.
            start: the number of the first row in the epoch.
            n_rows: the rows of the epoch.
        """
        n_members, n, size = outputs.shape[:3]
        if self.outputs is None:
            self.outputs = outputs.new_empty(n_members, n_rows, *outputs.shape[3:])
        mine = self.outputs[:, start : start + n * size]
        mine.view(n_members, n, size, *outputs.shape[3:]).copy_(outputs)

    def end_steps(self) -> None:
        """Note how many steps each member has taken, and leave a state that can be saved."""
        self.block.reset_state()
        steps = self.block.n_steps.tolist()
        for k, member in self.occupied():
            member.step = steps[k]

    def shrink(self) -> bool:
        """Halve the block while half of its slots are free; returns whether it was."""
        size, n_taken = len(self.members), len(self.occupied())
        while n_taken <= size // 2:
            size = ceil(size / 2)
        if size < len(self.members):
            chosen = [k for k, _ in self.occupied()] + self.free()
            self.block = self.block.only(chosen[:size])
            self.members = [self.members[k] for k in chosen[:size]]
            self.outputs = None
            self._settle(range(size))
            return True
        return False


def compact(every: list[BlockSlots[Member]]) -> bool:
    """Move members out of the last block into slots that became free, if that empties it.

    Returns:
        Whether any have moved.
    """
    have_moved = False
    while len(every) > 1:
        last, others = every[-1], every[:-1]
        free = [(slots, k) for slots in others for k in slots.free()]
        if len(free) < len(last.occupied()):
            break
        for (slots, k), (place, member) in zip(free, last.occupied(), strict=False):
            slots.take(k, member, last.block, place)
            have_moved = True
        every.pop()
    return (len(every) == 1 and every[0].shrink()) or have_moved


def named_tensors(task_model: TaskModel) -> dict[str, Tensor]:
    """The parameters and buffers of a network and its loss, by name."""
    return {**dict(task_model.named_parameters()), **dict(task_model.named_buffers())}


def bind(task_model: TaskModel, tensors: Mapping[str, Tensor]) -> None:
    """Make tensors the weights and buffers of a network, without copying; others are left out."""
    for name, own in named_tensors(task_model).items():
        if name in tensors:
            own.data = tensors[name]
