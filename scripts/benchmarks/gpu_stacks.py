"""The part of gpu.py that trains in one process: stacks on a GPU, beside PyTorch, Lightning, JAX.

python scripts/benchmarks/gpu_stacks.py --seconds 95 [--device cpu] [--more]
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from shutil import which
from time import perf_counter
from typing import Any

import numpy as np
import torch
from measuring import Rates, measure, median_ratio, seconds_of, show, versions
from peers import bare_rate, jax_rates, raw_rate, synchronize
from stacks import epoch_seconds, make_parts, make_stack, memory, rate_of, read_data, train_epoch
from torch.utils.data import DataLoader, TensorDataset

from multilayer.core.device import choose_device
from multilayer.data import Dataset
from multilayer.lockstep.stack import Stack
from multilayer.training.runtime import quiet_lightning, ready_memory


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Args:
        device: "gpu" or "cpu".
        seconds: of each rate.
        rounds: of each rate, where the time allows it.
        n_members: of the stacks, in the order in which they are measured.
        n_same: of the stack whose results are compared with the CPU's.
        n_memory: of the stacks whose memory is looked at, by the widths of their networks.
        n_epochs: of what PyTorch and Lightning train.
    """

    device: str
    seconds: float = 0.5
    rounds: int = 3
    n_members: tuple[int, ...] = (1024, 32, 1, 4096)
    n_same: int = 16
    n_memory: dict[str, int] = field(default_factory=lambda: {"[128,64]": 1024, "[1024,1024]": 64})
    n_epochs: int = 15


@dataclass(frozen=True)
class TimeLimit:
    """When to stop.

    Args:
        seconds: from now on.
    """

    seconds: float
    start: float = field(default_factory=perf_counter)

    def left(self) -> float:
        """The seconds that are left."""
        return self.seconds - (perf_counter() - self.start)


def sizes_for(device: str, *, more: bool) -> Sizes:
    """How much is measured; on the CPU only whether everything runs."""
    if device == "cpu":
        return Sizes(device, 0.1, 2, (4, 1), 3, {"[128,64]": 4, "[32,32]": 2}, 1)
    n_members = (1024, 32, 1, 4096, 256, 16384) if more else (1024, 32, 1, 4096)
    return Sizes(device, n_members=n_members, rounds=5 if more else 3)


def skip(words: str) -> None:
    """Say what is not measured, and why."""
    print(f"skipped: {words}", flush=True)


def describe(device: torch.device) -> str:
    """The card and the versions, in two lines."""
    card = "no GPU: small sizes, to see that everything runs"
    if device.type == "cuda":
        free, total = (each / 2**30 for each in torch.cuda.mem_get_info())
        card = f"{torch.cuda.get_device_name()}, {free:.0f} of {total:.0f} GiB free, "
        card += f"CUDA {torch.version.cuda}"
        if which("nvidia-smi"):
            command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
            found = subprocess.run(command, capture_output=True, text=True, check=False).stdout
            card += f", driver {(found.splitlines() or ['unknown'])[0]}"
    packages = ["torch", "pytorch-lightning", *(["triton"] if find_spec("triton") else [])]
    return f"{card}\n{versions(*packages)}; float32 products, without TF32"


def compare_with_cpu(data: Dataset, sizes: Sizes) -> None:
    """Print by how much the losses after two epochs differ from the CPU's.

    The tests marked `gpu` look at more, such as dropout.
    """
    print("\nlosses after two epochs: largest difference from the CPU's, in parts of the loss")
    expected, *others = (
        losses_of(data, sizes.n_same, f"trainer={device}", compile_mode=compiled)
        for device, compiled in (("cpu", False), (sizes.device, False), (sizes.device, True))
    )
    for mode, found in zip(("not compiled", "compiled"), others, strict=True):
        largest = max(np.abs(found[key] / expected[key] - 1).max() for key in found)
        is_same = "" if largest < 1e-3 else "   MISSED"
        print(f"K={sizes.n_same}, {mode:24s} {largest:.1e}   at most 1e-3{is_same}", flush=True)


def losses_of(data: Dataset, n_members: int, *overrides: str, compile_mode: bool) -> dict[str, Any]:
    """The losses of each member after two epochs, `(K,)` each."""
    stack = make_stack(data, n_members, *overrides, compile_mode=compile_mode)
    for _ in range(2):
        stack.begin_epoch()
        stack.train_epoch()
        stack.end_epoch()
    return {
        name: np.array([member.metrics[name] for member in stack.members()])
        for name in ("train/loss", "validation/loss")
    }


def peers(data: Dataset, sizes: Sizes) -> float:
    """Print what PyTorch and Lightning do with one network; returns the rate of the loop."""
    device = choose_device(sizes.device)
    rows = data.split_tensors("train")
    there = (rows[0].to(device), rows[1].to(device))
    loader = DataLoader(TensorDataset(*rows), batch_size=64, shuffle=True)
    n_epochs = sizes.n_epochs
    parts: dict[str, Callable[[], float]] = {
        "PyTorch loop": lambda: raw_rate(there, *make_parts(), n_epochs),
        "Lightning, DataLoader": lambda: bare_rate(
            loader, n_epochs, *make_parts(), accelerator=sizes.device
        ),
    }
    measure(1, parts)
    rates = measure(sizes.rounds, parts)
    print("\nmember-steps per second, training alone")
    show(rates)
    return float(np.median(rates["PyTorch loop"]))


def stack_rates(
    data: Dataset, n_members: int, sizes: Sizes, limit: TimeLimit, loop: float
) -> tuple[float, Stack] | None:
    """Print what a stack does; returns the rate when it is compiled, if there was time, and it.

    Args:
        data: of the digits.
        n_members: of the stack.
        sizes: how much is measured.
        limit: for all that is measured here.
        loop: the rate of a PyTorch loop.
    """
    names = {f"K={n_members}, compiled": True, f"K={n_members}, not compiled": False}
    parts: dict[str, Callable[[], float]] = {}
    stacks: dict[str, Stack] = {}
    slowest = 0.0
    for name, compiled in names.items():
        # A stack is built in about 3 ms a member, and its first epochs may be long.
        if limit.left() < 5 + 0.003 * n_members:
            skip(f"{name}: {limit.left():.0f} s are left")
            continue
        built = perf_counter()
        override = f"trainer={sizes.device}"
        stacks[name] = make_stack(data, n_members, override, compile_mode=compiled)
        begin = perf_counter()
        train_epoch(stacks[name])
        first, again = perf_counter() - begin, seconds_of(partial(train_epoch, stacks[name]))
        n_blocks = len(stacks[name].slots)
        blocks = f"{n_blocks} block{'s' * (n_blocks > 1)}"
        print(
            f"{name}: {blocks}, built in {begin - built:.1f} s, first epoch {first:.1f} s,"
            f" second {again:.2f} s",
            flush=True,
        )
        slowest += max(again, sizes.seconds)
        parts[name] = partial(rate_of, stacks[name], sizes.seconds)
    if not parts:
        return None
    rounds = min(sizes.rounds, int(0.7 * limit.left() / slowest))
    if rounds < 1:
        skip(f"rounds of {', '.join(parts)}: {limit.left():.0f} s are left")
        return None
    with ready_memory():
        rates = measure(rounds, parts)
    show(rates)
    name, *others = rates
    stack = stacks[name]
    print(f"{name + ' / PyTorch loop':42s} {np.median(rates[name]) / loop:10.2f}")
    for other in others:
        print(f"{'compiled / not compiled':42s} {median_ratio(rates[name], rates[other]):10.2f}")
    found = [epoch_seconds(stack) for _ in range(rounds)]
    steps, besides = (1e3 * float(np.median(each)) for each in zip(*found, strict=True))
    print(
        f"an epoch of {name}: steps {steps:,.0f} ms, order, validation and so on {besides:,.0f} ms"
    )
    return float(np.median(rates[name])), stack


def show_replay(stack: Stack, n_members: int, sizes: Sizes) -> None:
    """Print what the compiled steps of an epoch take as one CUDA graph that is replayed."""
    if stack.device.type != "cuda":
        skip("replay of a CUDA graph: this is no CUDA device")
        return
    try:
        replay = capture_epoch(stack)
    except (
        Exception
    ) as error:  # such as an engine that replays graphs already, or too little memory
        skip(f"replay of a CUDA graph: {str(error).splitlines()[0]}")
        return
    rates: Rates = {f"K={n_members}, replayed CUDA graph": []}
    for _ in range(sizes.rounds):
        start, n = perf_counter(), 0
        while perf_counter() - start < sizes.seconds:
            replay()
            synchronize(stack.device)
            n += 1
        rate = n * stack.n_batches * n_members / (perf_counter() - start)
        next(iter(rates.values())).append(rate)
    show(rates)


def capture_epoch(stack: Stack) -> Callable[[], None]:
    """A CUDA graph of all steps of an epoch, as the runner is given them; replaying trains on.

    Nothing but the steps is in it: the same minibatches are trained on again.
    """
    calls: list[tuple[Any, ...]] = []
    run = stack.runner.run

    def note(*arguments: Any) -> Any:
        calls.append(arguments)
        return run(*arguments)

    with ExitStack() as undo:
        vars(stack.runner)["run"] = note
        undo.callback(vars(stack.runner).pop, "run")
        train_epoch(stack)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for arguments in calls:
            run(*arguments)

    def replay() -> None:
        """`calls` holds what the graph reads."""
        assert calls
        graph.replay()

    return replay


def show_jax(n_members: Sequence[int], sizes: Sizes, ours: dict[int, float], limit: float) -> None:
    """Print what JAX does, beside what was measured of ours."""
    try:
        device, found = jax_rates(n_members, sizes.seconds, sizes.rounds, limit)
    except subprocess.CalledProcessError as error:  # its own words are above
        skip(f"JAX: it ended with code {error.returncode}")
        return
    if not device:
        skip("JAX: it is not installed")
        return
    print(f"\nJAX, jit(vmap(scan)), on {device}")
    if sizes.device != "cpu" and device.lower() == "cpu":
        skip("JAX has no GPU here")
        return
    show({f"JAX K={n}": values for n, values in found.items()})
    for n in n_members:
        if n not in found:
            skip(f"JAX K={n}: {limit:.0f} s were over")
        elif n in ours:
            words = f"lockstep K={n}, compiled / JAX"
            print(f"{words:42s} {ours[n] / np.median(found[n]):10.2f}")


def main() -> int:
    """Print all, as far as the time allows it; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--seconds", type=float, default=95)
    parser.add_argument("--more", action="store_true", help="more numbers of members, more rounds")
    chosen = parser.parse_args()
    limit = TimeLimit(chosen.seconds)
    if chosen.device == "gpu" and not torch.cuda.is_available():
        print("no NVIDIA GPU found; --device cpu tries everything there, with small sizes")
        return 2
    quiet_lightning()
    sizes = sizes_for(chosen.device, more=chosen.more)
    print(describe(choose_device(sizes.device)), flush=True)
    data = read_data()
    compare_with_cpu(data, sizes)
    print()
    for widths, n in sizes.n_memory.items():
        own = [f"model.d_hidden={widths}", f"trainer={sizes.device}"]
        memory(data, n, *own, compile_mode=False)
    loop = peers(data, sizes)
    rates: dict[int, float] = {}
    stacks: dict[int, Stack] = {}
    for i, n in enumerate(sizes.n_members):
        # What is left of the time is for those that follow, too, and for JAX.
        share = TimeLimit(limit.left() / (len(sizes.n_members) + 1 - i))
        if found := stack_rates(data, n, sizes, share, loop):
            rates[n], stacks[n] = found
    show_jax(sorted(sizes.n_members), sizes, rates, max(5, 0.7 * limit.left()))
    print()
    for n, stack in stacks.items():  # at the end: a capture that fails may spoil what follows
        show_replay(stack, n, sizes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
