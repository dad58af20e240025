"""What lockstep does on a GPU, the tests marked `gpu` included, in at most 3 minutes.

python scripts/benchmarks/gpu.py [--more] [--device cpu]

Each part is a process that is ended when its time is over; what it leaves goes to the next one.
`--more` takes three times as long, with more rounds, more numbers of members, and a sweep whose
compiled step is in no cache. `--device cpu` tries everything with small sizes, where there is no
GPU: its figures say nothing.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

from measuring import Aim, Rates, show
from sweeps import sweep_seconds

ROOT = Path(__file__).parents[2]
SHARES = {"stacks": 85, "tests": 50, "sweeps": 45}
"""Seconds of each part."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Args:
        device: "gpu" or "cpu".
        more: whether to take more time.
        n_runs: of the sweep.
        n_alone: of those that are trained one after the other.
        n_epochs: of each run, at most.
        rounds: of the sweeps, where the time allows it.
    """

    device: str
    more: bool
    n_runs: int = 1024
    n_alone: int = 8
    n_epochs: int = 30
    rounds: int = 3


def run_stacks(sizes: Sizes, seconds: float) -> int:
    """Rates, memory, and results beside the CPU's; returns the exit code."""
    script = Path(__file__).with_name("gpu_stacks.py")
    words = [str(script), "--device", sizes.device, "--seconds", f"{seconds - 3:.0f}"]
    return run_python([*words, *(["--more"] if sizes.more else [])], seconds)


def run_tests(sizes: Sizes, seconds: float) -> int:
    """The tests marked `gpu`; returns the exit code."""
    files = sorted(ROOT.glob("tests/**/test_*.py"))
    marked = [str(path) for path in files if "mark.gpu" in path.read_text(encoding="utf-8")]
    print(f"\ntests marked gpu, in {len(marked)} files", flush=True)
    # Without the project's options and Hypothesis: the machine may not have what they need.
    words = [
        "-m",
        "pytest",
        "-o",
        "addopts=",
        "-p",
        "no:hypothesispytest",
        "-m",
        "gpu",
        "-v",
        "-rs",
        "--tb=short",
        *marked,
    ]
    return run_python(words, seconds)


def run_python(words: list[str], seconds: float) -> int:
    """Run a process of Python for so long at most; returns its exit code."""
    try:
        return subprocess.run(
            [sys.executable, *words], cwd=ROOT, timeout=seconds, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        print(f"skipped: the rest of it, {seconds:.0f} s were over", flush=True)
        return 1


def run_sweeps(sizes: Sizes, seconds: float) -> int:
    """A whole lockstep sweep, over runs one after another, scaled; returns the exit code.

    Those begin once: what a run more takes is the difference between some and one.
    """
    n, some, end = sizes.n_runs, sizes.n_alone, perf_counter() + seconds
    print(f"\nwhole processes of {n:,} runs in lockstep, and of {some} one after another, seconds")
    override = f"trainer={sizes.device}"
    names = (f"lockstep, {n} runs", f"one after another, {some} runs", "one run")
    launchers, numbers = ("lockstep", "basic", "basic"), (n, some, 1)
    found: Rates = {name: [] for name in names}
    scaled: list[float] = []
    took = 0.0
    for _ in range(sizes.rounds):
        begin = perf_counter()
        if end - begin < took:
            break
        try:
            for name, launcher, n_runs in zip(names, launchers, numbers, strict=True):
                left = end - perf_counter()
                take = partial(sweep_seconds, launcher, n_runs, override, n_epochs=sizes.n_epochs)
                found[name].append(take(limit=max(1.0, left)))
        except subprocess.TimeoutExpired:
            print(f"skipped: {name} and what follows, {seconds:.0f} s were over")
            break
        took = perf_counter() - begin
        each = (found[names[1]][-1] - found[names[2]][-1]) / (some - 1)
        scaled.append((found[names[2]][-1] + (n - 1) * each) / found[names[0]][-1])
    show({name: values for name, values in found.items() if values}, digits=1)
    if scaled:
        print(Aim(f"{n:,} runs one after another (scaled) / lockstep", scaled, 60))
    if sizes.more:
        show_first_use(sizes, end - perf_counter())
    return 0 if scaled else 1


def show_first_use(sizes: Sizes, seconds: float) -> None:
    """Print how long the sweep takes where torch's cache is empty."""
    name = f"lockstep, {sizes.n_runs} runs, first use"
    with tempfile.TemporaryDirectory() as cache:
        try:
            taken = sweep_seconds(
                "lockstep",
                sizes.n_runs,
                f"trainer={sizes.device}",
                n_epochs=sizes.n_epochs,
                cache=cache,
                limit=max(1.0, seconds),
            )
            show({name: [taken]}, digits=1)
        except subprocess.TimeoutExpired:
            print(f"skipped: {name}, {seconds:.0f} s are left")


PARTS: dict[str, Callable[[Sizes, float], int]] = {
    "stacks": run_stacks,
    "tests": run_tests,
    "sweeps": run_sweeps,
}


def main() -> int:
    """Run the parts; returns 0 if all of them have ended well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--more", action="store_true", help="three times as long")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    chosen = parser.parse_args()
    sizes = Sizes(chosen.device, chosen.more)
    if chosen.device == "cpu":
        sizes = Sizes(chosen.device, chosen.more, n_runs=4, n_alone=2, n_epochs=2, rounds=1)
    start, end, codes = perf_counter(), 0.0, {}
    for name in chosen.parts:
        end += SHARES[name] * (3 if chosen.more else 1)
        codes[name] = PARTS[name](sizes, max(5.0, end - (perf_counter() - start)))
        if codes[name] == 2 and name == "stacks":  # there is no GPU
            return 2
    print(f"\n{perf_counter() - start:.0f} s in all")
    failed = [name for name, code in codes.items() if code]
    if failed:
        print(f"not ended, or failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
