"""The operations of a function as a graph.

`make_fx` of torch does the same; it imports torch's compiler first, which takes longer than many a
sweep trains. `tests/stacking/test_tracing.py` compares the two.
"""

from collections.abc import Callable, Sequence
from operator import getitem
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.weak import WeakTensorKeyDictionary


def trace(
    function: Callable[..., tuple[Tensor, ...]], inputs: Sequence[Tensor]
) -> tuple[GraphModule, tuple[Tensor, ...]]:
    """Run a function and note its operations on tensors, those of a backward pass included.

    Args:
        function: of tensors. What else it reads, such as a Python number, is fixed in the graph.
        inputs: its arguments; it may change them in place.

    Returns:
        A graph that does what the function did, with other tensors too, and needs no autograd; and
        what the function returned.

    Raises:
        ValueError: if what it does depends on the value of a tensor, or it uses one that is
            neither among the inputs nor made within: the graph would go on with today's. What
            leaves torch, by `tolist()` or `numpy()`, is not seen.
    """
    recorder = _Recorder(inputs)
    with recorder:
        outputs = function(*inputs)
    recorder.graph.output(tuple(recorder.node_of(each) for each in outputs))
    return GraphModule(recorder.constants, recorder.graph), outputs


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes each operation that torch runs, below autograd and `vmap`."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.graph = Graph()
        self.constants = nn.Module()
        self.nodes = WeakTensorKeyDictionary()
        self.n_constants = 0
        for i, each in enumerate(inputs):
            self.nodes[each] = self.graph.placeholder(f"input_{i}")

    def node_of(self, tensor: Tensor) -> Node:
        """What a tensor is in the graph."""
        if tensor not in self.nodes:
            raise ValueError(
                "it uses a tensor that is neither a parameter nor a buffer nor made of them:"
                f" {tuple(tensor.shape)} of {tensor.dtype}"
            )
        node: Node = self.nodes[tensor]
        return node

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """To be left out by torch's compiler, it would have to be imported."""
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operation, and note it."""
        if {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & {*func.tags}:
            raise ValueError(f"what it does depends on the value of a tensor: {func}")
        if func is torch.ops.aten.lift_fresh.default:  # `torch.tensor(...)` made one of numbers
            name, self.n_constants = f"constant_{self.n_constants}", self.n_constants + 1
            self.constants.register_buffer(name, args[0].clone())
            func, self.nodes[args[0]] = torch.ops.aten.clone.default, self.graph.get_attr(name)
        nodes = tree_map_only(Tensor, self.node_of, (args, kwargs or {}))
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.nodes[result] = self.graph.call_function(func, *nodes)
        elif any(isinstance(each, Tensor | Node) for each in tree_leaves((result, nodes))):
            node = self.graph.call_function(func, *nodes)
            for i, each in enumerate(result if isinstance(result, tuple | list) else ()):
                if isinstance(each, Tensor):
                    self.nodes[each] = self.graph.call_function(getitem, (node, i))
        return result
