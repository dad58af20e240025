"""How fast lockstep is compared with its peers, in one run.

python scripts/benchmarks/lockstep.py [--repeats 5] [--sweeps] [--large]

The work: digits (1257 rows), 64-128-64-10 relu, minibatches of 64, Adam. Rates are model-steps per
second; each round measures all peers in turn, and the medians of the rounds are shown with their
smallest and largest. JAX is installed into an environment of its own, `.venv-benchmark`.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command does, before torch

import torch
from measuring import Rates, config_of, measure, ratio, show, versions
from peers import bare_rate, raw_rate
from sklearn.neural_network import MLPClassifier
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from multilayer import MLP
from multilayer.data import Dataset
from multilayer.lockstep.member import Member, build_member
from multilayer.lockstep.plan import Job
from multilayer.lockstep.stack import Stack
from multilayer.lockstep.writer import Writer
from multilayer.training.components import make_data
from multilayer.training.runtime import quiet_lightning, ready_memory

JAX = "jax==0.10.2"
PEERS = Path(".venv-benchmark")
SECONDS = 1.5  # of each measurement
WORK = ["loss=cross_entropy", "logger=none", "callbacks=none", "trainer.max_epochs=100000"]


def read_data() -> Dataset:
    """The digits."""
    data = make_data(config_of(*WORK))
    data.setup()
    return data


def make_stack(data: Dataset, n_members: int, *overrides: str, compile_mode: bool = True) -> Stack:
    """A stack that is ready to be trained."""
    config = config_of(*WORK, *overrides)
    folder = Path(tempfile.mkdtemp())
    members = []
    for k in range(n_members):
        own = config | {"seed": k, "data": config["data"] | {"shuffle_seed": k}}
        members.append(build_member(Job(k, own, folder / str(k), ()), data))
    return Stack(members, Writer[Member](), compile_mode=compile_mode, threads="auto")


def train_epoch(stack: Stack) -> None:
    """All minibatches once, without validation."""
    stack.begin_epoch()
    stack.train_epoch()
    for member in stack.members():
        member.epoch += 1


def rate_of(stack: Stack, seconds: float = SECONDS) -> float:
    """Model-steps per second of training alone."""
    start, n_epochs = perf_counter(), 0
    while perf_counter() - start < seconds:
        train_epoch(stack)
        n_epochs += 1
    return n_epochs * stack.n_batches * len(stack.members()) / (perf_counter() - start)


def make_parts() -> tuple[Any, ...]:
    """A new network, the loss, and what makes the optimizer."""
    return MLP(64, 10, d_hidden=[128, 64]), nn.CrossEntropyLoss(), torch.optim.Adam


def sklearn_rate(features: torch.Tensor, target: torch.Tensor) -> float:
    """scikit-learn's MLPClassifier."""
    network = MLPClassifier((128, 64), batch_size=64, max_iter=20, tol=0, n_iter_no_change=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged
        start = perf_counter()
        network.fit(features.numpy(), target.numpy())
    return network.n_iter_ * -(-len(target) // 64) / (perf_counter() - start)


def jax_rate(n_members: int) -> float:
    """JAX, in its own process and environment."""
    python = PEERS / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", JAX],
            check=True,
        )
    script = Path(__file__).with_name("jax_sweep.py")
    command = [str(python), str(script), str(n_members), str(SECONDS)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def matrix_rate() -> float:
    """The floating-point operations per second of the products in a step of 16 members."""
    left, right = torch.randn(16, 64, 64), torch.randn(16, 64, 128)
    torch.bmm(left, right)
    start, n = perf_counter(), 0
    while perf_counter() - start < 0.5:
        for _ in range(100):
            torch.bmm(left, right)
        n += 100
    return n * 2 * 16 * 64 * 64 * 128 / (perf_counter() - start)


def training(data: Dataset, rounds: int) -> None:
    """Training alone, and the peers."""
    features, target = rows = data.split_tensors("train")
    loader = DataLoader(TensorDataset(*rows), batch_size=64, shuffle=True)
    stack, one = make_stack(data, 32), make_stack(data, 1)
    dropout, eager = (
        make_stack(data, 32, "model.dropout=0.1"),
        make_stack(data, 32, compile_mode=False),
    )
    for each in (stack, one, dropout, eager):
        start = perf_counter()
        train_epoch(each)
        print(f"first epoch of {len(each.members())} {perf_counter() - start:.1f} s")
        rate_of(each, 1.0)
    with ready_memory():
        rates = measure(
            rounds,
            {
                "lockstep K=32": lambda: rate_of(stack),
                "lockstep K=32, dropout": lambda: rate_of(dropout),
                "lockstep K=32, not compiled": lambda: rate_of(eager),
                "lockstep K=1": lambda: rate_of(one),
                "JAX K=32": lambda: jax_rate(32),
                "Lightning, DataLoader": lambda: bare_rate(loader, 40, *make_parts()),
                "PyTorch loop": lambda: raw_rate(rows, *make_parts(), n_epochs=100),
                "scikit-learn": lambda: sklearn_rate(features, target),
            },
        )
    show(rates)
    print()
    ratio(rates, "lockstep K=32", "Lightning, DataLoader", 20)
    ratio(rates, "lockstep K=32", "JAX K=32", 1.3)
    ratio(rates, "lockstep K=32, dropout", "lockstep K=32", 0.6)
    ratio(rates, "lockstep K=1", "PyTorch loop", 3)
    ratio(rates, "lockstep K=1", "scikit-learn", 2)
    n_weights = sum(p.numel() for p in one.module.network.parameters() if p.ndim == 2)
    operations = 2 * 64 * (3 * n_weights - 64 * 128)  # the input needs no gradient
    floor = matrix_rate() * torch.get_num_threads() / operations
    print(f"floor: {operations / 1e6:.2f} million operations a step, at one thread's matrix rate")
    print(f"       {floor:,.0f} model-steps per second, twice that with two threads")


def scaling(data: Dataset, rounds: int) -> None:
    """The cost of a step for each member, as members become many."""
    stacks = {n: make_stack(data, n) for n in (1, 4, 16, 64, 256, 1024)}
    for stack in stacks.values():
        train_epoch(stack)
    with ready_memory():
        parts = {str(n): partial(rate_of, stack) for n, stack in stacks.items()}
        rates = measure(rounds, parts)
    print("\nmembers   microseconds per member and step")
    medians = []
    for n, values in rates.items():
        costs = [1e6 / value for value in values]
        medians.append(statistics.median(costs))
        print(f"{n:>7s}   {medians[-1]:6.1f}   ({min(costs):.1f} to {max(costs):.1f})")
    rises = [later / min(medians[: i + 1]) for i, later in enumerate(medians)]
    print(f"largest rise over a smaller stack: {max(rises) - 1:.0%} (at most 10%)")


def compaction(data: Dataset) -> None:
    """The cost of a step of a stack as members leave."""
    print("\nof 64 members   milliseconds a step of all that are left")
    stack = make_stack(data, 64)
    for n_left in (64, 48, 32, 16, 4):
        for member in stack.alive()[n_left:]:
            member.trainer.should_stop = True
        train_epoch(stack)
        stack.validate(*stack.validation_rows)
        stack.end_validation()
        stack.end_epoch()
        with ready_memory():
            rate_of(stack, 0.5)
            found = statistics.median(rate_of(stack) for _ in range(3))
        print(f"{n_left:13d}   {1e3 * n_left / found:6.2f}")


def memory(data: Dataset, n_members: int = 64) -> None:
    """What members add to the memory of the process, besides their weights and Adam's moments."""
    shape = "model.d_hidden=[1024,1024]"
    with ready_memory():  # which gives back what is free
        before = resident()
    stack = make_stack(data, n_members, shape)
    with ready_memory():
        built = resident()
        train_epoch(stack)
        trained = resident()
    state = n_members * 3 * 4 * sum(each.numel() for each in stack.module.parameters())
    print(f"\n{n_members} members of 64-1024-1024-10, {state / 1e6:,.0f} MB of weights and moments")
    for name, bytes_ in (("built", built), ("after an epoch", trained)):
        taken = bytes_ - before
        print(f"{name:>15s} {taken / 1e6:8,.0f} MB: {taken / state - 1:+.1%} (at most +15%)")


def resident() -> int:
    """The bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def sweep_seconds(launcher: str, n_rates: int, cache: str | None = None) -> float:
    """A whole sweep as a process: start-up, folders, checkpoints and event files included."""
    step = 3.5 / (n_rates - 1)
    values = ",".join(f"{10 ** (-4 + step * i):.3g}" for i in range(n_rates))
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "multilayer", "train", "-m", f"hydra/launcher={launcher}"]
        command += [f"optimizer.lr={values}", "seed=0,1,2,3,4,5,6,7", "trainer.max_epochs=30"]
        command += ["loss=cross_entropy", "hydra.sweep.dir=sweep"]
        command += ["hydra.launcher.n_jobs=2"] if launcher == "joblib" else []
        environment = os.environ | ({"TORCHINDUCTOR_CACHE_DIR": cache} if cache else {})
        start = perf_counter()
        subprocess.run(command, check=True, capture_output=True, cwd=folder, env=environment)
        return perf_counter() - start


def sweeps(n_rates: int, rounds: int, wanted: float) -> None:
    """Lockstep with torch's cache empty and full, against two processes of joblib."""
    seconds: Rates = {"lockstep, cold": [], "lockstep, warm": [], "joblib": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            seconds["lockstep, cold"].append(sweep_seconds("lockstep", n_rates, cache))
            seconds["lockstep, warm"].append(sweep_seconds("lockstep", n_rates, cache))
        seconds["joblib"].append(sweep_seconds("joblib", n_rates))
    print(f"\n{8 * n_rates} runs as a process, seconds")
    show(seconds, digits=1)
    for name in ("lockstep, cold", "lockstep, warm"):
        ratio(seconds, "joblib", name, wanted)


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sweeps", action="store_true", help="also whole sweeps of 64 runs")
    parser.add_argument("--large", action="store_true", help="also one whole sweep of 256 runs")
    chosen = parser.parse_args()
    quiet_lightning()
    print(f"{versions('torch', 'pytorch-lightning', 'scikit-learn')}, {JAX}\n")
    torch.set_num_threads(1)
    data = read_data()
    training(data, chosen.repeats)
    scaling(data, chosen.repeats)
    compaction(data)
    if sys.platform == "linux":
        memory(data)
    if chosen.sweeps or chosen.large:
        sweeps(8, chosen.repeats, 6)
    if chosen.large:
        sweeps(32, 1, 12)


if __name__ == "__main__":
    main()
