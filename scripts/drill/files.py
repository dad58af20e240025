"""Whether the files of runs and sweeps are whole."""

import csv
import json
import struct
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
import yaml
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from multilayer.core.errors import UserError
from multilayer.core.files import PARTIAL
from multilayer.runs.folder import HPARAMS_FILE, find_state
from multilayer.sweeps import Ledger


def unreadable(folder: Path, *, has_ended: bool) -> list[str]:
    """What is wrong with the files below a folder, a line for each.

    Args:
        folder: Of a run or a sweep.
        has_ended: Whether nothing is being written any more, and nothing was cut off since it was
            last gone on with: partial files of a process that was killed are removed by the next.
    """
    problems = []
    for path in sorted(folder.rglob("*")):
        problem = _problem_of(path, has_ended) if path.is_file() else None
        if problem:
            problems.append(f"{path.relative_to(folder)}: {problem}")
    if (folder / "ledger").exists():
        try:
            Ledger(folder).refresh()
        except UserError as error:
            problems.append(str(error))
    return problems


def _problem_of(path: Path, has_ended: bool) -> str | None:
    """What is wrong with a file; None for nothing."""
    if ".partial" in path.name:
        # A process that was killed has left it; what is set aside stays as it was.
        return "is half written" if has_ended and "ledger" not in path.parts else None
    check = _CHECKS.get("events" if "tfevents" in path.name else path.suffix)
    try:
        if check:
            check(path)
    except Exception as error:  # whatever a library says of a damaged file
        return f"{type(error).__name__}: {error}"
    return None


def _check_checkpoint(path: Path) -> None:
    """Loaded as plain data; the zip's checksums find what `torch.load` does not."""
    torch.load(path, weights_only=True)
    with zipfile.ZipFile(path) as archive:
        if (name := archive.testzip()) is not None:
            raise ValueError(f"{name} in it is damaged")


def _check_json(path: Path) -> None:
    json.loads(path.read_text())


def _check_yaml(path: Path) -> None:
    if not isinstance(yaml.safe_load(path.read_text()), dict):
        raise ValueError("no keys with values")


def _check_history(path: Path) -> None:
    """Whole rows, one for each epoch from the first on."""
    text = path.read_text()
    if not text.endswith("\n"):
        raise ValueError("its last row is cut off")
    head, *rows = csv.reader(text.splitlines())
    if any(len(row) != len(head) for row in rows):
        raise ValueError("its rows differ in length")
    epochs = [int(row[head.index("epoch")]) for row in rows]
    if epochs != list(range(1, len(rows) + 1)):
        raise ValueError(f"its epochs are {epochs}")


def _check_events(path: Path) -> None:
    read_events(path)


_CHECKS: dict[str, Callable[[Path], Any]] = {
    ".ckpt": _check_checkpoint,
    ".json": _check_json,
    ".yaml": _check_yaml,
    ".csv": _check_history,
    "events": _check_events,
}


def read_events(path: Path) -> list[Event]:
    """All events in a file, whose checksums are compared; TensorBoard ignores a torn end.

    Raises:
        ValueError: A record is damaged or torn.
    """
    content, place, events = path.read_bytes(), 0, []
    while place < len(content):
        head = content[place : place + 8]
        size = struct.unpack("<Q", head)[0] if len(head) == 8 else len(content)
        data = content[place + 12 : place + 12 + size]
        crcs = content[place + 8 : place + 12] + content[place + 12 + size : place + 16 + size]
        if len(crcs) != 8:
            raise ValueError(f"record {len(events)} is torn")
        if struct.unpack("<II", crcs) != (masked_crc32c(head), masked_crc32c(data)):
            raise ValueError(f"record {len(events)} is damaged")
        events.append(Event.FromString(data))
        place += 16 + size
    return events


def finished_files(run_folders: list[Path]) -> dict[Path, str]:
    """A hash of each file of the runs that have come to their ends, without TensorBoard's table."""
    folders = [folder for folder in run_folders if find_state(folder) == "finished"]
    paths = [
        path
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and path.name != HPARAMS_FILE and not path.name.startswith(PARTIAL)
    ]
    return {path: sha256(path.read_bytes()).hexdigest() for path in sorted(paths)}


def changed_files(before: dict[Path, str]) -> list[str]:
    """What has become of files since `finished_files`, a line for each that is not as it was."""
    problems = []
    for path, digest in before.items():
        if not path.exists():
            problems.append(f"{path}: of a finished job, is gone")
        elif sha256(path.read_bytes()).hexdigest() != digest:
            problems.append(f"{path}: of a finished job, was changed")
    return problems
