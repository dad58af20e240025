"""A program that compiles the step of a stack, while the process that asked for it trains on.

It runs by itself, with torch alone. A line of its input says what to compile, the last one of its
output what came of it, both in JSON; see `multilayer.stacking.library_build`. It ends when its
input does: when the other process wants no more of it, or has been killed.
"""

import json
import math
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Thread
from typing import Any


def main() -> None:
    """Do what the input says."""
    request = json.loads(sys.stdin.readline())
    Thread(target=_end_with_input, daemon=True).start()
    try:
        answer = {"library": _compile(request)}
    except Exception as error:  # whatever torch's compiler raises
        answer = {"error": str(error).strip().partition("\n")[0] or type(error).__name__}
    print("", json.dumps(answer), sep="\n", flush=True)


def _end_with_input() -> None:
    """Wait for the end of the input, and end this process and the C++ compiler that it runs."""
    os.read(0, 1)
    os.killpg(0, signal.SIGTERM)  # upon which compilers remove what they have begun to write
    os._exit(1)  # where the signal is ignored


def _compile(request: dict[str, Any]) -> str | None:
    """Compile a graph; returns the path of the library, or None where it would need Python."""
    import torch
    import torch._inductor
    from torch.fx.experimental.proxy_tensor import make_fx

    torch.set_num_threads(request["n_threads"])
    names: dict[str, Any] = {
        "torch": torch,
        "device": torch.device,
        "inf": math.inf,
        "nan": math.nan,
    }
    exec(request["code"], names)  # noqa: S102 - as torch does with a graph
    forward: Callable[..., Sequence[torch.Tensor]] = names["forward"]
    n_inputs = request["n_inputs"]

    def run(*tensors: torch.Tensor) -> tuple[()]:
        """The graph, whose outputs are written to the last arguments."""
        found = forward(None, *tensors[:n_inputs])
        for out, each in zip(tensors[n_inputs:], found, strict=True):
            out.copy_(each)
        return ()

    example = [
        torch.empty_strided(shape, stride, dtype=getattr(torch, dtype))
        for dtype, shape, stride in request["layouts"]
    ]
    # The compiler wants a graph whose changes in place are all at its end.
    functional = torch.func.functionalize(run, remove="mutations")
    final = make_fx(functional, tracing_mode="fake")(*example)
    options = request["options"]
    path = str(torch._inductor.aot_compile(final, tuple(example), options=options))
    needs_python = Path(path).with_suffix(".json").exists()  # a list of what has no C interface
    return None if needs_python else path


if __name__ == "__main__":
    main()
