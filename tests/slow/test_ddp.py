"""One run on two processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ..lockstep.test_equivalence import scalars

pytestmark = pytest.mark.slow


def train_on_two_processes(folder: Path, *overrides: str) -> tuple[str, Path]:
    """What the command prints, and its run folder."""
    words = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "data=iris"]
    done = subprocess.run(
        [sys.executable, "-m", "multilayer", "train", *words, "trainer.max_epochs=2", *overrides],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (run,) = folder.glob("runs/*/*")
    return done.stdout, run


def test_two_processes_train_one_run(tmp_path: Path) -> None:
    """One run folder, one table; each process takes half of the rows."""
    printed, folder = train_on_two_processes(tmp_path, "data.batch_size=13")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["steps"] == 2 * 4  # 104 rows, 52 a process, 13 a minibatch
    assert printed.count("run folder") == 1
    assert (folder / "checkpoints" / "best.ckpt").is_file()


def test_metrics_are_over_the_rows_of_both_processes(tmp_path: Path) -> None:
    """Weights that stay give in training what they give over all training rows."""
    _, folder = train_on_two_processes(tmp_path, "optimizer.lr=0", "data.batch_size=20")
    metrics = json.loads((folder / "metrics.json").read_text())
    curves = scalars(folder)
    for split in ("train", "validation"):
        for name, value in metrics[split].items():
            ((first, found), _) = curves[f"{split}/{name}"]
            assert first == 2  # 52 rows a process, 20 a minibatch: steps 0 to 2
            assert found == pytest.approx(value, abs=1e-5), (split, name)
