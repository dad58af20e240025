"""How fast lockstep is compared with its peers, and with what is aimed at, in one run.

python scripts/benchmarks/lockstep.py [--repeats 5] [--parts training start ...] [--small]

The work: digits (1257 rows), 64-128-64-10 relu, minibatches of 64, Adam. Rates are member-steps per
second. Each round measures all peers in turn, and the medians of the rounds are shown with their
smallest and largest. JAX is installed into an environment of its own, `.venv-benchmark`. The last
lines are the figures that are aimed at.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from time import perf_counter

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command does, before torch

import torch
from measuring import Aim, Rates, measure, ratios, seconds_of, show, spread, versions
from peers import JAX, bare_rate, install_jax, jax_rates, raw_rate, sklearn_rate
from stacks import epoch_seconds, make_parts, make_stack, memory, rate_of, read_data, train_epoch
from sweeps import (
    WORK,
    added_by_a_run,
    import_seconds,
    process_seconds,
    seconds_to_first_step,
    sweep_seconds,
)
from torch.utils.data import DataLoader, TensorDataset

from multilayer.lockstep.stack import Stack
from multilayer.runs.folder import RunFolder
from multilayer.training.runtime import n_threads_at_most, quiet_lightning, ready_memory


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Args:
        rounds: of each measurement.
        seconds: of each rate.
        n_members: of the stack that is compared.
        scaling: of the stacks whose costs a member are compared.
        widths: of the networks whose memory is looked at.
        n_runs: of the sweeps from which follows what a run adds.
        n_epochs: of the sweeps that are compared.
        sweeps: the runs of the sweep that is compared, and of the large one.
    """

    rounds: int = 5
    seconds: float = 1.5
    n_members: int = 32
    scaling: tuple[int, ...] = (1, 4, 16, 64, 256, 1024)
    widths: str = "[1024,1024]"
    n_runs: tuple[int, ...] = (8, 64, 256)
    n_epochs: int = 30
    sweeps: tuple[int, int] = (64, 256)


def small_sizes(rounds: int) -> Sizes:
    """To see in a minute or two that everything runs."""
    return Sizes(rounds, 0.1, 3, (1, 4), "[32,32]", (2, 3), 2, (3, 4))


def matrix_rate(n_members: int, n_threads: int, seconds: float = 0.3) -> float:
    """The floor: member-steps per second if a step were its matrix products alone.

    The products of a step are counted as if all ran at the rate of the largest one, `(B, 64)` by
    `(64, 128)`, on as many threads at the same time, each with other products: one core is
    faster while the others rest.
    """
    n_weights = 64 * 128 + 128 * 64 + 64 * 10
    operations = 2 * 64 * (3 * n_weights - 64 * 128)  # the input needs no gradient

    def multiply(_: int) -> float:
        torch.set_num_threads(1)
        left, right = torch.randn(n_members, 64, 64), torch.randn(n_members, 64, 128)
        torch.bmm(left, right)
        start, n = perf_counter(), 0
        while perf_counter() - start < seconds:
            for _ in range(100):
                torch.bmm(left, right)
            n += 100
        return n * 2 * n_members * 64 * 64 * 128 / (perf_counter() - start)

    before = torch.get_num_threads()
    with ThreadPoolExecutor(n_threads) as pool:
        rate = sum(pool.map(multiply, range(n_threads)))
    torch.set_num_threads(before)
    return rate / operations


def floor_of(stack: Stack) -> float:
    """The floor of a stack: of its blocks, with the threads that their steps use."""
    workers = stack.runner.workers
    return matrix_rate(len(stack.slots[0].block), workers.n_at_once * workers.n_threads)


def training(sizes: Sizes) -> list[Aim]:
    """Training alone, and the peers."""
    data = read_data()
    features, target = rows = data.split_tensors("train")
    loader = DataLoader(TensorDataset(*rows), batch_size=64, shuffle=True)
    n, seconds = sizes.n_members, sizes.seconds
    stacks = {
        f"lockstep K={n}": make_stack(data, n),
        f"lockstep K={n}, dropout": make_stack(data, n, "model.dropout=0.1"),
        f"lockstep K={n}, not compiled": make_stack(data, n, compile_mode=False),
        "lockstep K=1": make_stack(data, 1),
    }
    for name, stack in stacks.items():
        print(f"first epoch of {name}: {seconds_of(partial(train_epoch, stack)):.1f} s")
        rate_of(stack, seconds)
    stack, dropout, eager, one = stacks
    install_jax()
    n_epochs = max(1, int(50 * seconds))
    with ready_memory():
        parts: dict[str, Callable[[], float]] = {
            name: partial(rate_of, each, seconds) for name, each in stacks.items()
        }
        parts[f"JAX K={n}"] = lambda: jax_rates([n], seconds)[1][n][0]
        parts["Lightning, DataLoader"] = lambda: bare_rate(loader, n_epochs // 2 + 1, *make_parts())
        parts["PyTorch loop"] = lambda: raw_rate(rows, *make_parts(), n_epochs)
        parts["scikit-learn"] = lambda: sklearn_rate(features, target, n_epochs // 3 + 1)
        parts["matrix floor"] = lambda: floor_of(stacks[stack])
        rates = measure(sizes.rounds, parts)
    show(rates)

    def over(name: str, peer: str, wanted: float) -> Aim:
        return Aim(f"{name} / {peer}", ratios(rates[name], rates[peer]), wanted)

    return [
        over(stack, "Lightning, DataLoader", 28),
        over(stack, f"JAX K={n}", 2.2),
        over(stack, "matrix floor", 0.55),
        over(eager, "PyTorch loop", 4.5),
        over(one, "PyTorch loop", 4),
        over(one, "scikit-learn", 3),
        over(dropout, stack, 0.6),
    ]


def scaling(sizes: Sizes) -> list[Aim]:
    """The cost of a step for each member as members become many, and the floor of each number."""
    data = read_data()
    stacks = {n: make_stack(data, n) for n in sizes.scaling}
    for stack in stacks.values():
        train_epoch(stack)
    with ready_memory():
        parts: dict[str, Callable[[], float]] = {}
        for n, stack in stacks.items():
            parts[f"{n}"] = partial(rate_of, stack, sizes.seconds)
            parts[f"floor {n}"] = partial(floor_of, stack)
        rates = measure(sizes.rounds, parts)
    print("\nmembers   microseconds per member and step       of the matrix floor")
    costs = []
    for n in stacks:
        own = [1e6 / rate for rate in rates[f"{n}"]]
        costs.append(statistics.median(own))
        share = statistics.median(ratios(rates[f"{n}"], rates[f"floor {n}"]))
        print(f"{n:7d}   {spread(own, 1):34s} {share:10.0%}")
    least = [min(costs[: i + 1]) for i in range(len(costs))]
    rise = max(cost / low for cost, low in zip(costs, least, strict=True)) - 1
    name = "cost a member, largest rise over a smaller stack"
    return [Aim(name, [100 * rise], 10, is_most=True, unit=" %")]


def compaction(sizes: Sizes) -> list[Aim]:
    """The cost of a step of a stack as members leave."""
    n_members = 2 * sizes.n_members
    print(f"\nof {n_members} members   milliseconds a step of all that are left")
    stack = make_stack(read_data(), n_members)
    for share in (1, 0.75, 0.5, 0.25, 1 / 16):
        n_left = max(1, int(share * n_members))
        train_epoch(stack)
        if leaving := stack.members()[n_left:]:
            stack.leave(leaving)
            stack.compact()
        with ready_memory():
            rate_of(stack, sizes.seconds)
            found = [1e3 * n_left / rate_of(stack, sizes.seconds) for _ in range(sizes.rounds)]
        print(f"{n_left:13d}   {spread(found, 2)}")
    return []


def memory_of_wide_networks(sizes: Sizes) -> list[Aim]:
    """What 64 members of wide networks add to the memory of the process."""
    print()
    found = memory(read_data(), 2 * sizes.n_members, f"model.d_hidden={sizes.widths}")
    name = "memory beyond weights and moments, wide members"
    return [Aim(name, [100 * (found - 1)], 15, is_most=True, unit=" %")]


def start(sizes: Sizes) -> list[Aim]:
    """How long it takes to begin."""
    short = ["-m", "multilayer", "train", *WORK, "trainer.max_epochs=1"]
    seconds = measure(
        sizes.rounds,
        {
            "import torch": lambda: import_seconds("torch"),
            "lockstep sweep, to its first step": lambda: seconds_to_first_step(8),
            "import pytorch_lightning": lambda: import_seconds("pytorch_lightning"),
            "train trainer.max_epochs=1": lambda: process_seconds(*short),
        },
    )
    print("\nwhole processes, seconds")
    show(seconds, digits=2)
    torch_alone, sweep, lightning, train = seconds
    return [
        Aim(f"{name} / {peer}", ratios(seconds[name], seconds[peer]), wanted, is_most=True)
        for name, peer, wanted in ((sweep, torch_alone, 1.6), (train, lightning, 0.85))
    ]


def runs(sizes: Sizes) -> list[Aim]:
    """What a run, and an epoch of it, add to a sweep beside the steps of its training.

    A run's is the slope of whole sweeps of one epoch of one step. An epoch's is measured in a stack
    of default runs: validation, metrics, callbacks and files.
    """
    first, last = sizes.n_runs[0], sizes.n_runs[-1]

    def whole(n_runs: int) -> float:
        return sweep_seconds("lockstep", n_runs, "trainer.limit_train_batches=1", n_epochs=1)

    seconds = measure(sizes.rounds, {f"{n}": partial(whole, n) for n in sizes.n_runs})
    print("\nlockstep sweeps of one epoch of one step, seconds, by runs")
    show(seconds, digits=2)
    pairs = zip(seconds[f"{first}"], seconds[f"{last}"], strict=True)
    slopes = [added_by_a_run(pair, (first, last)) for pair in pairs]
    stack = make_stack(read_data(), sizes.sweeps[0], compile_mode=False, bare=())
    for member in stack.members():
        RunFolder(member.run.path).begin(member.config, member.manifest)
    with ready_memory():
        epoch_seconds(stack)
        besides = [epoch_seconds(stack)[1] for _ in range(2 * sizes.rounds)]
        rest = seconds_of(stack.writer.finish) / (2 * sizes.rounds)
    epochs = [1e3 * (each + rest) / len(stack.members()) for each in besides]
    return [
        Aim("a run adds to a sweep, beside its steps", slopes, 10, is_most=True, unit=" ms"),
        Aim("an epoch adds for each run, beside its steps", epochs, 0.15, True, " ms"),
    ]


def sweeps(sizes: Sizes) -> list[Aim]:
    """A whole sweep of 64 runs."""
    return compare_sweeps(sizes, sizes.sweeps[0], 6, 4.5)


def large(sizes: Sizes) -> list[Aim]:
    """A whole sweep of 256 runs."""
    return compare_sweeps(sizes, sizes.sweeps[1], 10, 7)


def compare_sweeps(sizes: Sizes, n_runs: int, warm: float, first: float) -> list[Aim]:
    """Lockstep with torch's cache empty and full, against two processes of joblib."""
    seconds: Rates = {"lockstep, first use": [], "lockstep, warm": [], "joblib": []}
    take = partial(sweep_seconds, n_runs=n_runs, n_epochs=sizes.n_epochs)
    for _ in range(sizes.rounds):
        with tempfile.TemporaryDirectory() as cache:
            seconds["lockstep, first use"].append(take("lockstep", cache=cache))
            seconds["lockstep, warm"].append(take("lockstep", cache=cache))
        seconds["joblib"].append(take("joblib"))
    print(f"\n{n_runs} runs as a process, seconds")
    show(seconds, digits=1)
    return [
        Aim(f"{n_runs} runs over joblib: {name}", ratios(seconds["joblib"], own), wanted)
        for name, own, wanted in (
            ("warm", seconds["lockstep, warm"], warm),
            ("first use", seconds["lockstep, first use"], first),
        )
    ]


PARTS: dict[str, Callable[[Sizes], list[Aim]]] = {
    "training": training,
    "scaling": scaling,
    "compaction": compaction,
    "memory": memory_of_wide_networks,
    "start": start,
    "runs": runs,
    "sweeps": sweeps,
    "large": large,
}


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    usual = [name for name in PARTS if name not in ("sweeps", "large")]
    help_ = f"by default {' '.join(usual)}; the others take some and many minutes"
    parser.add_argument("--parts", nargs="+", choices=[*PARTS, "all"], default=usual, help=help_)
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see that it runs")
    chosen = parser.parse_args()
    sizes = small_sizes(chosen.repeats) if chosen.small else Sizes(chosen.repeats)
    names = list(PARTS) if "all" in chosen.parts else chosen.parts
    quiet_lightning()
    print(f"{versions('torch', 'pytorch-lightning', 'scikit-learn')}, {JAX}\n")
    n_threads_at_most("auto")  # stacks use those that torch starts with
    torch.set_num_threads(1)  # which is faster for the peers' small products
    aims = []
    for name in names:
        if name == "memory" and sys.platform != "linux":
            continue
        aims += PARTS[name](sizes)
    print(f"\n{'figure':60s} {'median (smallest to largest)':28s} wanted")
    for aim in aims:
        print(aim)


if __name__ == "__main__":
    main()
