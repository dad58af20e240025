"""A compiled step as a shared library, called by its C interface.

torch's own binding of such a library holds the GIL while it runs, so that blocks would wait for
each other. We call its C interface instead, which torch keeps stable: see
`aoti_runtime/interface.h` and `aoti_torch/c/shim.h` below `torch/include/torch/csrc/inductor`, and
`tests/stacking/test_library.py`.
"""

import ctypes
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

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
