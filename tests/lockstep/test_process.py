"""A whole sweep in a process of its own: what it imports, and what one leaves that is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import torch

from multilayer.runs.checkpoint import read_checkpoint

from .test_equivalence import scalars

SWEEP = ["train", "-m", "hydra/launcher=lockstep", "hydra.sweep.dir=sweep", "data=iris"]

HEAVY = ["pytorch_lightning", "lightning_fabric", "torchmetrics", "scipy", "matplotlib", "sklearn"]
HEAVY += ["torch._dynamo", "torch.utils.tensorboard"]

PROGRAM = """
import sys
from multilayer.cli.main import main
code = main(sys.argv[1:])
names = {heavy} + ["torch"] * ("sweep.retry=none" in sys.argv)
print("imported:", [name for name in names if name in sys.modules], "code", code)
"""


def start(tmp_path: Path, *words: str) -> subprocess.Popen[str]:
    """A sweep in another process."""
    command = [sys.executable, "-c", PROGRAM.format(heavy=HEAVY), *SWEEP, *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True)


def test_a_sweep_needs_torch_alone(tmp_path: Path) -> None:
    """With all files, several stacks, members that take places, stop early and fail."""
    words = ["trainer.max_epochs=3,1", "seed=0,1", "optimizer.lr=1e-2,1e30", "compile=false"]
    words += ["model.dropout=0,[0.1]"]  # which is for one hidden layer
    process = start(tmp_path, *words, "hydra.launcher.max_members=3")
    out, err = process.communicate(timeout=120)
    assert "imported: [] code 1" in out, (out, err)
    paths = [path.parent for path in sorted(tmp_path.glob("sweep/[0-9]*/manifest.json"))]
    statuses = [json.loads((path / "manifest.json").read_text())["status"] for path in paths]
    assert sorted(statuses) == ["diverged"] * 4 + ["done"] * 4 + ["failed"] * 8
    assert len(list(tmp_path.glob("sweep/*/checkpoints/last.ckpt"))) == 8
    events = tmp_path.glob("sweep/*/tensorboard/*tfevents*")
    assert len([path for path in events if not path.name.endswith("hparams")]) == 8
    process = start(tmp_path, *words, "hydra.launcher.max_members=3", "sweep.retry=none")
    out, err = process.communicate(timeout=120)
    assert "sweep: 16 jobs: " in out, (out, err)
    assert "imported: [] code 1" in out, (out, err)  # not even torch, where nothing is trained


def look_at(folder: Path) -> dict[str, Any]:
    """What is in a run folder; raises where a file is damaged."""
    found: dict[str, Any] = {"manifest": json.loads((folder / "manifest.json").read_text())}
    if (folder / "history.csv").exists():
        found["history"] = pl.read_csv(folder / "history.csv")
    for path in folder.glob("checkpoints/[!.]*.ckpt"):  # not what was half written then
        found[path.name] = read_checkpoint(path)
    if (folder / "tensorboard").exists():
        found["scalars"] = scalars(folder)
    return found


def test_a_killed_sweep_leaves_whole_files(tmp_path: Path) -> None:
    """No half of one; checkpoints are as old as `every_seconds` says, and can be resumed."""
    words = ["trainer.max_epochs=100000", "seed=0,1,2", "callbacks.checkpoint.every_seconds=0.3"]
    words += ["callbacks.early_stopping.patience=100000", "compile=false"]
    process = start(tmp_path, *words)
    folders = [tmp_path / "sweep" / str(number) for number in range(3)]
    try:
        begun = time.monotonic()
        while not all((folder / "checkpoints" / "last.ckpt").exists() for folder in folders):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() - begun < 120
            time.sleep(0.05)
        time.sleep(3)  # in which all files are written several times
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    for folder in (folders[0], folders[2], folders[1]):  # the last one is resumed
        found = look_at(folder)
        assert found["manifest"]["status"] == "running"
        last = found["last.ckpt"]
        table = last["callbacks"]["History"]["columns"]
        seconds_saved, epochs_saved = table["seconds"][-1], table["epoch"][-1]
        assert last["global_step"] == table["step"][-1]
        steps = [step for step, _ in found["scalars"]["train/loss"]]
        assert steps == sorted(steps)
        assert len(steps) == steps[-1] // 2 + 1  # one an epoch of two minibatches, no gap
        assert found["history"]["epoch"].to_list() == list(range(1, len(found["history"]) + 1))
        assert seconds_saved > 0.5
        assert epochs_saved > 0
        weights = found["best.ckpt"]["state_dict"].values()
        assert all(torch.isfinite(each).all() for each in weights)
    resumed = subprocess.run(
        [sys.executable, "-m", "multilayer", "train", "resume=sweep/1", "data=iris", "seed=1",
         f"trainer.max_epochs={epochs_saved + 2}", "callbacks.early_stopping.patience=100000"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert resumed.returncode == 0, resumed.stderr
