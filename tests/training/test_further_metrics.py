"""Metrics of torchmetrics by name, in both engines, evaluation and reports."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
import torchmetrics
from torch import Tensor

from multilayer.core.errors import UserError
from multilayer.core.metric_names import more_is_better
from multilayer.training.further_metrics import make_metrics, values_of

from ..conftest import Run

SHORT = ["data=iris", "trainer.max_epochs=3"]
BOTH = "metrics=[MatthewsCorrCoef,{FBetaScore: {beta: 2.0, average: macro}}]"


def of_torchmetrics(name: str, predictions: Tensor, target: Tensor, **arguments: Any) -> Tensor:
    """The value by torchmetrics' functions, which keep no state."""
    function = getattr(torchmetrics.functional, name)
    found: Tensor = function(predictions, target, **arguments)
    return found


@pytest.mark.parametrize(
    ("task", "name", "arguments"),
    [
        ("multiclass", "CohenKappa", {"task": "multiclass", "num_classes": 3}),
        ("multiclass", "AveragePrecision", {"task": "multiclass", "num_classes": 3}),
        ("binary", "MatthewsCorrCoef", {"task": "binary"}),
        ("regression", "SpearmanCorrCoef", {}),
    ],
)
def test_values_are_torchmetrics(task: Any, name: str, arguments: dict[str, Any]) -> None:
    """For one network and for each of three, whatever was worked out before."""
    torch.manual_seed(0)
    target = torch.randint(3 if task == "multiclass" else 2, (3, 40))
    shape = (3, 40, 3) if task == "multiclass" else (3, 40)
    predictions = torch.rand(shape).softmax(-1) if task == "multiclass" else torch.rand(shape)
    if task == "regression":
        target = torch.rand(3, 40)
    metrics = make_metrics([name], task, 3 if task == "multiclass" else 2)
    ((reported, found),) = values_of(metrics, predictions, target).items()
    function = {"SpearmanCorrCoef": "spearman_corrcoef", "MatthewsCorrCoef": "matthews_corrcoef"}
    expected = [
        of_torchmetrics(function.get(name, reported), *each, **arguments)
        for each in zip(predictions, target, strict=True)
    ]
    assert found.tolist() == pytest.approx([float(each) for each in expected], rel=1e-6)
    alone = values_of(metrics, predictions[1], target[1])[reported]
    assert float(alone) == pytest.approx(float(expected[1]), rel=1e-6)
    predictions[1, 0] = torch.nan
    assert values_of(metrics, predictions, target)[reported].isnan().tolist() == [
        False,
        True,
        False,
    ]


def test_they_are_wherever_the_tasks_own_are(multilayer: Run, tmp_path: Path) -> None:
    """In a stack as in runs one by one: metrics.json, history.csv, the report and evaluation."""
    found = []
    for launcher in ("basic", "lockstep"):
        words = [*SHORT, BOTH, f"hydra/launcher={launcher}", f"hydra.sweep.dir={launcher}"]
        done = multilayer("train", "-m", *words, "seed=0,1", "trainer.precision=64-true")
        assert done.code == 0, done.err
        found.append(json.loads(Path(launcher, "1", "metrics.json").read_text()))
        names = pl.read_csv(Path(launcher, "1", "history.csv")).columns
        own = {f"{split}/{name}" for split in ("train", "validation") for name in found[0]["test"]}
        assert own <= set(names)
    assert {"matthews_corr_coef", "f_beta_score"} <= found[0]["test"].keys()
    for split in found[0]:
        assert found[1][split] == pytest.approx(found[0][split], rel=1e-9)
    done = multilayer("evaluate", "run=lockstep/1")
    assert done.code == 0
    assert "matthews_corr_coef" in done.out
    best = "metric=validation/matthews_corr_coef"
    assert multilayer("report", "sweep=lockstep", best).code == 0
    assert "validation/matthews_corr_coef" in Path("lockstep/report.md").read_text()


def test_one_decides_which_epoch_is_best(multilayer: Run) -> None:
    """With the mode that torchmetrics says is right."""
    words = [*SHORT, "metrics=[MatthewsCorrCoef]", "monitor=validation/matthews_corr_coef"]
    done = multilayer("train", *words)
    assert done.code == 2
    assert "mode=min: of validation/matthews_corr_coef more is better" in done.err
    done = multilayer("train", *words, "mode=max", "hydra.run.dir=r")
    assert done.code == 0, done.err
    history = pl.read_csv("r/history.csv")["validation/matthews_corr_coef"]
    best = json.loads(Path("r/manifest.json").read_text())["best_epoch"]
    assert history[best - 1] == history.max()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("[MatthewCorrCoef]", "no MatthewCorrCoef for the task multiclass: did you mean"),
        ("[MeanSquaredError]", "no MeanSquaredError for the task multiclass"),
        ("[ConfusionMatrix]", "ConfusionMatrix: it must give one number, got (3, 3)"),
        ("[AUROC]", "AUROC: auroc is reported already"),
        ("[CohenKappa,CohenKappa]", "CohenKappa: cohen_kappa is reported already"),
        ("[{FBetaScore: {bet: 2}}]", "FBetaScore: Unexpected keyword arguments: `bet`"),
        ("CohenKappa", 'a list is "metrics=[CohenKappa]"'),
        ("[{A: {}, B: {}}]", "metrics"),
        ("[3]", "metrics"),
    ],
)
def test_what_is_no_metric_is_one_message(given: str, message: str, multilayer: Run) -> None:
    """And nothing is written."""
    done = multilayer("train", *SHORT, f"metrics={given}")
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err
    assert not Path("runs").exists()


def test_directions_are_known_or_said_to_be_unknown() -> None:
    """Of the task's own, of torchmetrics', and of neither."""
    names = ["f1", "loss", "spearman_corr_coef", "mean_squared_error", "my_own"]
    assert [more_is_better(name) for name in names] == [True, False, True, False, None]


def test_a_metric_of_several_numbers_is_refused_in_regression() -> None:
    """As with classes; and one for classes is not there."""
    with pytest.raises(UserError, match="torchmetrics has no CohenKappa for the task regression"):
        make_metrics(["CohenKappa"], "regression", 0)


def test_without_further_metrics_torchmetrics_is_not_imported_by_a_stack(tmp_path: Path) -> None:
    """It takes a second."""
    words = [*SHORT, "hydra/launcher=lockstep", "seed=0,1", "logger=none"]
    program = "import sys; from multilayer.cli.main import main; sys.argv[1:] = " + repr(
        ["train", "-m", *words]
    )
    program += "; code = main(); sys.exit(code or 3 * ('torchmetrics' in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
