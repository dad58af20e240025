"""A step's library, which is compiled once, by another process, and kept for all later ones.

Importing torch's compiler, and having it find what it compiled before, takes longer than many a
sweep trains. So a step is compiled ahead of time (torch's AOTInductor), and its library is kept in
a file named after everything it depends on.
"""

import getpass
import hashlib
import json
import os
import platform
import re
import stat
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from functools import partial
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from multilayer.core.files import whole_file
from multilayer.stacking import compiling
from multilayer.stacking.library import StepLibrary
from multilayer.training.interrupts import raise_interrupts

_OPTIONS: dict[str, Any] = {
    "cpp.dynamic_threads": True,  # all shapes share torch's setting of the number of threads
    "cpp.vec_isa_ok": True,  # without trying each of the processor's instructions for a second
    # Compiling these takes 15 s, and saves each library 2.
    "aot_inductor.precompile_headers": False,
    "cpp_cache_precompile_headers": False,
}

_ENVIRONMENT = {
    "AOT_INDUCTOR_ENABLE_LINE_TABLES": "0",  # for debuggers: a second
    "TORCHINDUCTOR_COMPILE_THREADS": "1",  # no processes of torch's own, for there is one C++ file
}

_VERSION = 2
"""To be counted up with each change of how libraries are made, or called."""


class LibraryBuild:
    """The library of a graph: from its file, or made by another process while this one goes on.

    It is begun by `start`. That process ends when this one does, however it ends.

    Args:
        graph: operations on tensors of the CPU alone; it may change inputs in place.
        inputs: examples of its inputs.
        outputs: of its outputs.
        n_at_once: how many calls may run at the same time.

    Attributes:
        path: its file, which has a name for all that the library depends on.
        process: the one that makes it; None where there is a file.

    Raises:
        OSError: if there is no place for files that nobody else can write to.
    """

    def __init__(
        self,
        graph: GraphModule,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        n_at_once: int,
    ) -> None:
        graph, constants = _with_constants_as_inputs(graph)
        inputs = [_layout(each, each.stride()) for each in (*inputs, *constants)]
        outputs = [_layout(each) for each in outputs]
        self.path = _cache_folder() / f"{_key(graph, inputs)}.so"
        self._needs_python = self.path.with_suffix(".python")
        self._load = partial(StepLibrary, self.path, inputs, outputs, constants, n_at_once)
        self._start = partial(_start_compiling, graph, [*inputs, *outputs], len(inputs))
        self._library: StepLibrary | None = None
        self.process: Popen[str] | None = None

    def start(self) -> None:
        """Load the library from its file, or begin to make it; nothing if that was done."""
        if self._library is not None or self.process is not None:
            return
        if self.path.exists():
            try:
                self._library = self._load()
            except OSError:  # it is damaged
                self.path.unlink()
        if self._library is None and not self._needs_python.exists():
            self.process = self._start()

    def is_running(self) -> bool:
        """Whether the library is being made."""
        return self.process is not None and self.process.poll() is None

    def result(self) -> StepLibrary:
        """The library, when it is there.

        Raises:
            RuntimeError: if it could not be made.
        """
        if self.process is not None:
            while self.process.poll() is None:
                raise_interrupts()
                with suppress(TimeoutExpired):
                    self.process.wait(0.05)
            self._keep(self.process)
        if self._needs_python.exists():
            raise RuntimeError("it has an operation that needs Python")
        return self._library or self._load()

    def _keep(self, process: Popen[str]) -> None:
        """Keep what the other process has made."""
        lines = process.communicate()[0].splitlines()
        answer = json.loads(lines[-1]) if lines else {}
        if answer.get("library"):
            with whole_file(self.path) as file:
                file.write(Path(answer["library"]).read_bytes())
        elif "library" in answer:
            self._needs_python.touch()
        else:
            reason = f"the compiler ended with the exit code {process.returncode}"
            raise RuntimeError(answer.get("error", reason))

    def close(self) -> None:
        """End the other process, if it still runs."""
        if self.process is not None:
            self.process.communicate()  # which closes its input first
            self.process = None


def _start_compiling(graph: GraphModule, example: Sequence[Tensor], n_inputs: int) -> Popen[str]:
    """Have another process compile a graph whose outputs are written to its last arguments."""
    names = [str(each.dtype).removeprefix("torch.") for each in example]
    request = {
        "code": graph.code,
        "layouts": [
            (name, [*each.shape], [*each.stride()])
            for name, each in zip(names, example, strict=True)
        ],
        "n_inputs": n_inputs,
        "n_threads": torch.get_num_threads(),
        "options": _OPTIONS,
    }
    process = Popen(  # noqa: S603 - a program of our own
        [sys.executable, "-P", compiling.__file__],
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        text=True,
        env=os.environ | _ENVIRONMENT,
        start_new_session=True,  # Ctrl-C is for this process, which ends it then
    )
    assert process.stdin is not None
    with suppress(OSError):  # it has ended, which is seen later
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
    return process


def _layout(tensor: Tensor, stride: Sequence[int] | None = None) -> Tensor:
    """A tensor of the same shape and dtype, contiguous unless strides are given, without memory."""
    empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
    return empty if stride is None else empty.as_strided(tensor.shape, stride)


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
