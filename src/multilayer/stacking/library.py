"""A step as a shared library: compiled once, and loaded at once by every later process.

Importing torch's compiler, and having it find what it compiled before, takes longer than many a
sweep trains. So a step is compiled ahead of time (torch's AOTInductor), and its library is kept in
a file named after everything it depends on.

torch's own binding of such a library holds the GIL while it runs, so that blocks would wait for
each other. We call its C interface instead, which torch keeps stable: see
`aoti_runtime/interface.h` and `aoti_torch/c/shim.h` below `torch/include/torch/csrc/inductor`, and
`tests/stacking/test_library.py`.
"""

import ctypes
import getpass
import hashlib
import os
import platform
import re
import stat
import tempfile
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from multilayer.core.files import whole_file

_OPTIONS: dict[str, Any] = {
    "cpp.dynamic_threads": True,  # all shapes share torch's setting of the number of threads
    "cpp.vec_isa_ok": True,  # without trying each of the processor's instructions for a second
}

_VERSION = 1
"""To be counted up with each change of how libraries are made, or called."""

_Pointer = ctypes.c_void_p
_Int64 = ctypes.c_int64


class StepLibrary:
    """A compiled step, called like the graph that it was made from.

    Any number of threads may call it, `n_at_once` of them at the same time.

    Args:
        path: Path of the library.
        inputs: Examples of its inputs, on the CPU; later ones have their dtypes, shapes and
            strides.
        outputs: Examples of its outputs.
        constants: Its last inputs, which callers need not give.
        n_at_once: how many calls may run at the same time.

    Raises:
        OSError: if it cannot be loaded.
    """

    def __init__(
        self,
        path: Path,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        constants: Sequence[Tensor],
        n_at_once: int,
    ) -> None:
        self._library = ctypes.CDLL(str(path))
        self._constants = constants
        self._outputs = [(each.shape, each.dtype) for each in outputs]
        self._arguments = [_Argument(self._library, each) for each in (*inputs, *outputs)]
        self._run = self._library.AOTInductorModelContainerRun
        array = ctypes.POINTER(_Pointer)
        size = ctypes.c_size_t
        self._run.argtypes = [_Pointer, array, size, array, size, _Pointer, _Pointer]
        self._container = _Pointer()
        create = self._library.AOTInductorModelContainerCreateWithDevice
        create.argtypes = [array, size, ctypes.c_char_p, ctypes.c_char_p]
        if create(ctypes.byref(self._container), n_at_once, b"cpu", None):
            raise OSError(f"{path}: cannot be set up")

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """Run it; returns the outputs, and changes inputs in place as the graph does."""
        outputs = [torch.empty(shape, dtype=dtype, device="cpu") for shape, dtype in self._outputs]
        tensors = [*inputs, *self._constants, *outputs]
        handles = (_Pointer * len(tensors))()
        for argument, tensor in zip(self._arguments, tensors, strict=True):
            argument.check(tensor)
        for i, (argument, tensor) in enumerate(zip(self._arguments, tensors, strict=True)):
            argument.write_handle(tensor, ctypes.addressof(handles) + i * ctypes.sizeof(_Pointer))
        # The library frees the handles, and ctypes releases the GIL until it returns.
        if self._run(self._container, handles, len(tensors), None, 0, None, None):
            raise RuntimeError("a compiled step failed; torch has printed why")
        return outputs


class _Argument:
    """An input or output as a library sees it: with a fixed dtype, shape and strides."""

    def __init__(self, library: ctypes.CDLL, example: Tensor) -> None:
        n, offset, cpu, device_number = example.ndim, 0, 0, 0
        name = str(example.dtype).removeprefix("torch.")
        dtype = getattr(library, f"aoti_torch_dtype_{name}")()
        sizes, strides = ((_Int64 * n)(*each) for each in (example.shape, example.stride()))
        self.kind = example.dtype, example.shape
        self.strides = None if example.is_contiguous() else example.stride()
        self.description = n, sizes, strides, offset, dtype, cpu, device_number
        self.create = library.aoti_torch_create_tensor_from_blob
        array, int32 = ctypes.POINTER(_Int64), ctypes.c_int32
        self.create.argtypes = [_Pointer, _Int64, array, array, _Int64, *[int32] * 3, _Pointer]

    def check(self, tensor: Tensor) -> None:
        """Refuse a tensor of another layout: the library would read what is not the tensor's."""
        # A contiguous tensor may have any stride where its size is 1.
        is_same = (
            tensor.is_contiguous() if self.strides is None else tensor.stride() == self.strides
        )
        if not is_same or (tensor.dtype, tensor.shape, tensor.is_cpu) != (*self.kind, True):
            found = tensor.dtype, tensor.shape, tensor.stride(), tensor.device
            raise ValueError(
                f"compiled for {self.kind}, {self.strides or 'contiguous'}, not {found}"
            )

    def write_handle(self, tensor: Tensor, address: int) -> None:
        """Write a handle of a tensor, which is to live until the library has run, to an address."""
        if self.create(tensor.data_ptr(), *self.description, address):
            raise RuntimeError("torch cannot make a handle of a tensor")


def load_library(
    graph: GraphModule,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    n_at_once: int,
    before_compiling: Callable[[], None],
) -> StepLibrary | None:
    """The library of a graph: from its file, or compiled.

    Args:
        graph: operations on tensors of the CPU alone; it may change inputs in place.
        inputs: examples of its inputs.
        outputs: of its outputs.
        n_at_once: how many calls may run at the same time.
        before_compiling: is called if there is no file yet.

    Returns:
        None where it has operations that a library would need Python for.

    Raises:
        OSError: if there is no place for files that nobody else can write to.
        Exception: whatever torch's compiler raises.
    """
    graph, constants = _with_constants_as_inputs(graph)
    outputs = [torch.empty(each.shape, dtype=each.dtype) for each in outputs]  # as calls make them
    inputs = [*inputs, *constants]
    path = _cache_folder() / f"{_key(graph, inputs)}.so"
    needs_python = path.with_suffix(".python")
    if path.exists():
        try:
            return StepLibrary(path, inputs, outputs, constants, n_at_once)
        except OSError:  # it is damaged
            path.unlink()
    if needs_python.exists():
        return None
    before_compiling()
    compiled = _compile(graph, [*inputs, *outputs], len(inputs))
    if compiled is None:
        needs_python.touch()
        return None
    with whole_file(path) as file:
        file.write(compiled.read_bytes())
    return StepLibrary(path, inputs, outputs, constants, n_at_once)


def _with_constants_as_inputs(graph: GraphModule) -> tuple[GraphModule, list[Tensor]]:
    """A graph that takes the tensors that it holds as its last inputs, and these tensors."""
    own = deepcopy(graph.graph)
    constants = []
    last = list(own.find_nodes(op="placeholder"))[-1]
    for node in own.find_nodes(op="get_attr"):
        constants.append(getattr(graph, str(node.target)))
        with own.inserting_after(last):
            last = own.placeholder(str(node.target))
        node.replace_all_uses_with(last)
        own.erase_node(node)
    return GraphModule(graph, own), constants


def _compile(graph: GraphModule, example: Sequence[Tensor], n_inputs: int) -> Path | None:
    """Compile a graph whose outputs are written to its last arguments.

    Returns:
        The library; None where it would need Python.
    """
    import torch._inductor

    def run(*tensors: Tensor) -> tuple[()]:
        for out, found in zip(tensors[n_inputs:], graph(*tensors[:n_inputs]), strict=True):
            out.copy_(found)
        return ()

    # The compiler wants a graph whose changes in place are all at its end.
    functional = torch.func.functionalize(run, remove="mutations")
    final = make_fx(functional, tracing_mode="fake")(*example)
    compiled = Path(str(torch._inductor.aot_compile(final, tuple(example), options=_OPTIONS)))
    needs_python = compiled.with_suffix(".json").exists()  # a list of what has no C interface
    return None if needs_python else compiled


def _cache_folder() -> Path:
    """The folder of the libraries, within that of torch's compiler.

    Raises:
        OSError: if others can write to either. A library runs as whoever loads it.
    """
    root = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    if root is None:  # where torch has it; to ask torch would import the compiler
        try:
            user = re.sub(r'[\\/:*?"<>|]', "_", getpass.getuser())
        except (KeyError, OSError):  # in a container that does not know it
            user = f"uid_{os.getuid()}"
        root = f"{tempfile.gettempdir()}/torchinductor_{user}"
    folder = Path(root) / "multilayer"
    for each in (folder.parent, folder):
        each.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = each.lstat()
        if found.st_uid != os.getuid() or found.st_mode & 0o022 or not stat.S_ISDIR(found.st_mode):
            raise OSError(f"{each}: others can write to it")
    return folder


def _key(graph: GraphModule, inputs: Sequence[Tensor]) -> str:
    """A name for all that a library depends on."""
    digest = hashlib.sha256()
    for part in (
        _VERSION,
        torch.__version__,
        torch.version.git_version,
        torch.get_num_threads(),  # loops are divided among them
        _processor(),
        sorted(_OPTIONS.items()),
        graph.code,
        [(each.dtype, each.shape, each.stride()) for each in inputs],
    ):
        digest.update(repr(part).encode())
    return digest.hexdigest()[:40]


def _processor() -> str:
    """The processor and what it can do: a library uses all of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not on Linux
        lines = []
    own = {each for each in lines if each.startswith(("model name", "flags", "CPU ", "Features"))}
    return "\n".join([platform.machine(), platform.processor(), *sorted(own)])
