"""One run on two processes, which equal one; and why a sweep has none."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ..conftest import Run
from ..lockstep.test_equivalence import scalars
from ..trained import weights_of

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


@pytest.fixture(scope="module")
def doubled(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Runs of two processes, and of one whose minibatches have twice as many rows."""
    folders = []
    for words in (
        ["trainer=ddp", "trainer.devices=2", "data.batch_size=13"],
        ["data.batch_size=26"],
    ):
        folder = tmp_path_factory.mktemp("doubled")
        command = [sys.executable, "-m", "multilayer", "train", *words, "data=iris"]
        command += ["trainer.accelerator=cpu", "trainer.max_epochs=3", "optimizer=sgd"]
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        folders += folder.glob("runs/*/*")
    return folders


def test_two_processes_equal_one_with_the_doubled_batch(doubled: list[Path]) -> None:
    """The same steps over the same rows: to rounding, the same weights."""
    steps = [json.loads((run / "manifest.json").read_text())["steps"] for run in doubled]
    assert steps == [12, 12]  # 104 rows, 26 a step
    weights = [weights_of(run, "last.ckpt") for run in doubled]
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("launcher", ["basic", "lockstep", "joblib"])
def test_a_sweep_of_such_runs_is_refused(launcher: str, multilayer: Run, tmp_path: Path) -> None:
    """Before anything is written: the second process would start the whole sweep again."""
    words = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "data=iris"]
    outcome = multilayer("train", "-m", *words, f"hydra/launcher={launcher}", "seed=0,1")
    assert outcome.code == 2
    assert "trainer.strategy=ddp trainer.devices=2: several processes are not for a sweep" in (
        outcome.err
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("launcher", ["basic", "lockstep"])
def test_a_choice_of_it_for_some_jobs_is_refused(
    launcher: str, multilayer: Run, tmp_path: Path
) -> None:
    """No job with it is right, so that the command is not: before any other is trained."""
    words = ["data=iris", "trainer.accelerator=cpu", "trainer.max_epochs=1", "trainer=cpu,ddp"]
    words += [f"hydra/launcher={launcher}", "hydra.sweep.dir=sweep"]
    outcome = multilayer("train", "-m", *words)
    assert outcome.code == 2
    assert "several processes are not for a sweep" in outcome.err
    assert list(tmp_path.iterdir()) == []


SCRIPT = """
import json
import sys

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from multilayer import MLP, RegressionModule


def loader(n_rows, seed, batch_size):
    rows = torch.rand(n_rows, 3, generator=torch.Generator().manual_seed(seed))
    return DataLoader(TensorDataset(rows, 10 * rows.sum(dim=1)), batch_size=batch_size)


def main(n_processes):
    torch.manual_seed(0)
    module = RegressionModule(
        MLP(3, 1, d_hidden=[8]), optimizer=lambda given: torch.optim.SGD(given, lr=0.01)
    )
    trainer = pl.Trainer(
        accelerator="cpu", strategy="ddp" if n_processes > 1 else "auto", devices=n_processes,
        max_epochs=3, logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False,
    )
    size = 32 // n_processes
    # All rows at once: Lightning has each process take other rows each epoch.
    trainer.fit(module, loader(128, 0, 128 // n_processes), loader(64, 1, size))
    found = {name: float(value) for name, value in trainer.callback_metrics.items()}
    for run in (trainer.validate, trainer.test):
        found |= run(module, loader(64, 2, size), verbose=False)[0]
    n_predicted = sum(map(len, trainer.predict(module, loader(64, 3, size))))
    weights = [float(each.abs().sum()) for each in module.network.parameters()]
    if trainer.is_global_zero:
        print(json.dumps({"metrics": found, "weights": weights, "predicted": n_predicted}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
"""


def test_anyones_script_on_two_processes_equals_one(tmp_path: Path) -> None:
    """With plain loaders: the metrics are over the rows of both, and the weights are the same."""
    (tmp_path / "script.py").write_text(SCRIPT)
    found = {}
    for n in (1, 2):
        done = subprocess.run(
            [sys.executable, "script.py", str(n)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found[n] = json.loads(done.stdout.strip().splitlines()[-1])
    one, two = found[1], found[2]
    assert {"train/loss", "validation/rmse", "test/r2"} <= one["metrics"].keys()
    assert two["metrics"] == pytest.approx(one["metrics"], rel=1e-4)
    assert two["weights"] == pytest.approx(one["weights"], rel=1e-5)
    assert (one["predicted"], two["predicted"]) == (64, 32)  # each process its share
