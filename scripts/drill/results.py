"""Whether a training that was disturbed ends as the one that was not."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path
from typing import Any

import torch
from drill.files import read_events

from multilayer.runs.checkpoint import read_checkpoint
from multilayer.sweeps import Ledger

_MOST_PROBLEMS = 5
"""Lines about the differences of one training."""

_CLOSE = 1e-5
"""Differences up to that are of rounding, relative to the largest number of a tensor."""

_RESULTS = ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step")
"""What is compared of a checkpoint."""

_ENTRIES = ("seed", "steps", "best_epoch", "status", "stop_reason", "rows")
"""What is compared of a manifest."""


@dataclass
class Comparison:
    """How two things differ.

    Attributes:
        largest: The largest relative difference of numbers that was found.
        problems: A line for each difference that is not of rounding.
    """

    largest: float = 0.0
    problems: list[str] = field(default_factory=list)

    def compare(self, found: Any, expected: Any, place: str) -> None:
        """Compare plain data, by its parts."""
        if isinstance(expected, Mapping) and isinstance(found, Mapping):
            for key in {**expected, **found}:
                self.compare(found.get(key), expected.get(key), f"{place} {key}")
        elif _is_list(expected) and _is_list(found) and len(found) == len(expected):
            for index, pair in enumerate(zip(found, expected, strict=True)):
                self.compare(*pair, f"{place} {index}")
        elif _is_number(expected) and _is_number(found):
            self._compare_numbers(torch.as_tensor(found), torch.as_tensor(expected), place)
        elif found != expected:
            self.problems.append(f"{place}: {found!r:.200}, and undisturbed {expected!r:.200}")

    def _compare_numbers(self, found: torch.Tensor, expected: torch.Tensor, place: str) -> None:
        if found.shape != expected.shape:
            self.problems.append(f"{place}: of another shape")
            return
        if torch.equal(found, expected) or not expected.numel():
            return
        a, b = found.double(), expected.double()
        different = float(((a - b).abs() / b.abs().amax().clamp_min(0.1)).amax())
        if isnan(different) and bool(torch.equal(a.isnan(), b.isnan())):
            different = float((a - b).nan_to_num(0.0).abs().amax())
        self.largest = max(self.largest, different)
        if not different <= _CLOSE:
            self.problems.append(f"{place}: differs by {different:.1e}")


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _is_number(value: Any) -> bool:
    return isinstance(value, torch.Tensor | float | int) and not isinstance(value, bool)


def compare_runs(
    found: Sequence[Path], expected: Sequence[Path], *, is_exact: bool, curves: bool = True
) -> tuple[list[str], float]:
    """What differs between finished runs and the undisturbed ones, a line for each.

    Args:
        found: Their folders.
        expected: Those of the undisturbed runs.
        is_exact: Whether rounding is a difference.
        curves: Whether the names of files, and TensorBoard's curves, are compared: a full disk cuts
            these short.

    Returns:
        The differences, and the largest one between numbers.
    """
    names = [[path.name for path in paths] for paths in (found, expected)]
    if len(found) != len(expected):
        return [f"the runs are {names[0]}, and undisturbed {names[1]}"], 0.0
    comparison = Comparison()
    for a, b in zip(found, expected, strict=True):
        results = dict(_results_of(a, curves))
        for name, content in _results_of(b, curves):
            comparison.compare(results.get(name), content, f"{a.name} {name}")
    if is_exact and comparison.largest and not comparison.problems:
        comparison.problems.append(f"not equal to the bit: they differ by {comparison.largest:.1e}")
    return comparison.problems[:_MOST_PROBLEMS], comparison.largest


def _results_of(folder: Path, curves: bool) -> Iterator[tuple[str, Any]]:
    """What a run has given, by the names of its files, where they can be read."""
    for name in ("best.ckpt", "last.ckpt"):
        if (path := folder / "checkpoints" / name).exists():
            checkpoint = read_checkpoint(path)
            yield name, {key: checkpoint[key] for key in _RESULTS if key in checkpoint}
    if (path := folder / "manifest.json").exists():
        manifest = json.loads(path.read_text())
        yield "manifest.json", {key: manifest[key] for key in _ENTRIES}
    if (path := folder / "metrics.json").exists():
        yield "metrics.json", json.loads(path.read_text())
    if (path := folder / "history.csv").exists():
        head, *rows = csv.reader(path.read_text().splitlines())
        columns = {name: [row[i] for row in rows] for i, name in enumerate(head)}
        del columns["seconds"]
        yield "history.csv", {name: list(map(float, cells)) for name, cells in columns.items()}
    if (path := folder / "config.yaml").exists():
        yield "config.yaml", path.read_text()
    if curves:
        yield "tensorboard", _curves(folder / "tensorboard")
        yield "files", _file_names(folder)


def _file_names(folder: Path) -> dict[str, str]:
    """The names of its files; TensorBoard's, which have times in theirs, under one name."""
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    return {name.partition(".out.tfevents")[0]: "is there" for name in sorted(names)}


def _curves(folder: Path) -> dict[str, list[float]]:
    """The curves that TensorBoard shows: what was gone on with hides what came after it."""
    curves: dict[str, dict[int, float]] = {}
    for path in sorted(folder.glob("events*"), key=lambda path: path.name.split(".")[3]):
        for event in read_events(path):
            if event.HasField("session_log"):
                curves = {
                    tag: {step: value for step, value in points.items() if step < event.step}
                    for tag, points in curves.items()
                }
            for each in event.summary.value:
                if each.HasField("simple_value"):
                    curves.setdefault(each.tag, {})[event.step] = each.simple_value
    return {tag: list(points.values()) for tag, points in curves.items()}


def done_attempts(sweep: Path) -> dict[int, int]:
    """How many attempts each job took that the ledger says is done."""
    if not (sweep / "ledger" / "jobs").is_dir():
        return {}
    ledger = Ledger(sweep)
    ledger.refresh()
    return {n: job.attempts.count for n, job in ledger.jobs.items() if job.state == "done"}


def repeated_jobs(before: Mapping[int, int], now: Mapping[int, int]) -> list[str]:
    """Jobs that were done and are done again, or no longer, a line for each."""
    return [
        f"job {number} was done in attempt {count}, and now "
        + (f"in attempt {now[number]}" if number in now else "is not")
        for number, count in before.items()
        if now.get(number) != count
    ]


def not_done_once(sweep: Path) -> list[str]:
    """Jobs of a sweep's ledger that did not come to their ends exactly once, a line for each."""
    if not (sweep / "ledger" / "jobs").is_dir():
        return []
    ledger = Ledger(sweep)
    ledger.refresh()
    counts = {
        number: sum(
            each.outcome is not None and each.outcome.state in ("done", "diverged")
            for each in job.attempts.by_number.values()
        )
        for number, job in ledger.jobs.items()
    }
    return [f"job {n} came to its end {count} times" for n, count in counts.items() if count != 1]
