"""One run on two processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ..lockstep.test_equivalence import scalars

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What a command with weights that stay as they are prints, and its run folder."""
    folder = tmp_path_factory.mktemp("ddp")
    words = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "data=iris"]
    words += ["trainer.max_epochs=2", "optimizer.lr=0", "data.batch_size=20"]
    done = subprocess.run(
        [sys.executable, "-m", "multilayer", "train", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (run,) = folder.glob("runs/*/*")
    return done.stdout, run


def test_two_processes_train_one_run(trained: tuple[str, Path]) -> None:
    """One run folder, one table; each process takes half of the rows."""
    printed, folder = trained
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["steps"] == 2 * 3  # 104 rows, 52 a process, 20 a minibatch
    assert printed.count("run folder") == 1
    assert (folder / "checkpoints" / "best.ckpt").is_file()


def test_metrics_are_over_the_rows_of_both_processes(trained: tuple[str, Path]) -> None:
    """Weights that stay give in training what they give over all training rows."""
    _, folder = trained
    metrics = json.loads((folder / "metrics.json").read_text())
    curves = scalars(folder)
    for split in ("train", "validation"):
        for name, value in metrics[split].items():
            ((first, found), _) = curves[f"{split}/{name}"]
            assert first == 2  # 52 rows a process, 20 a minibatch: steps 0 to 2
            assert found == pytest.approx(value, abs=1e-5), (split, name)
