"""Evaluating a run from its folder, its checkpoint, or on a file."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from multilayer.runs.checkpoint import read_checkpoint
from multilayer.training.evaluate import evaluate

from ..conftest import Run


def printed(out: str) -> dict[str, str]:
    """The table that a command printed, as metric -> value of its last column."""
    rows = [line.split("│") for line in out.splitlines() if line.startswith("│")]
    return {row[1].strip(): row[-2].strip() for row in rows}


def test_evaluate_prints_what_the_training_printed(multilayer: Run, tmp_path: Path) -> None:
    """The same digits, from a folder that has moved since, in another working directory."""
    trained = multilayer("train", "data=wine", "trainer.max_epochs=4")
    (folder,) = tmp_path.glob("runs/*/*")
    shutil.move(folder, tmp_path / "moved")
    evaluated = multilayer("evaluate", "run=moved")
    assert evaluated.code == 0, evaluated.err
    assert printed(evaluated.out) == printed(trained.out)
    assert "27 test rows" in evaluated.out


def test_a_run_is_its_best_epoch_not_its_last(finished_run: Path, tmp_path: Path) -> None:
    """Whatever lies in `last.ckpt`; that is evaluated where it is named."""
    shutil.copytree(finished_run, tmp_path / "run")
    last = tmp_path / "run/checkpoints/last.ckpt"
    checkpoint = read_checkpoint(last)
    for name, value in checkpoint["state_dict"].items():
        value.mul_(0 if name.startswith("network.") else 1)
    torch.save(checkpoint, last)
    expected = json.loads((tmp_path / "run/metrics.json").read_text())["test"]
    question = {"split": "test", "data": {"path": None}, "device": "cpu", "trusted_packages": []}
    found = evaluate({**question, "run": str(tmp_path / "run")}).metrics
    assert found == pytest.approx(expected, rel=1e-6)
    assert evaluate({**question, "run": str(last)}).metrics["loss"] != expected["loss"]


def test_a_checkpoint_file_is_enough(multilayer: Run, finished_run: Path, tmp_path: Path) -> None:
    """Nothing else of the run folder is needed."""
    shutil.copy(finished_run / "checkpoints" / "best.ckpt", tmp_path / "best.ckpt")
    assert multilayer("evaluate", "run=best.ckpt").code == 0


def test_evaluate_on_a_file(multilayer: Run, tmp_path: Path, iris_csv: Path) -> None:
    """The rows of the file the run was trained on give the metrics of all its splits together."""
    table = ["data=table", "data.path=iris.csv", "data.target=species", "trainer.max_epochs=10"]
    assert multilayer("train", *table).code == 0
    (folder,) = tmp_path.glob("runs/*/*")
    outcome = multilayer("evaluate", f"run={folder}", "data.path=iris.csv")
    assert outcome.code == 0, outcome.err
    metrics = json.loads((folder / "metrics.json").read_text())
    rows = json.loads((folder / "manifest.json").read_text())["rows"]
    expected = sum(metrics[split]["accuracy"] * n for split, n in rows.items()) / 150
    assert float(printed(outcome.out)["accuracy"]) == pytest.approx(expected, abs=1e-5)


def header(out: str) -> str:
    """The last column's header in the table that a command printed."""
    lines = [line.split("┃") for line in out.splitlines() if line.startswith("┃")]
    return " ".join(line[-2].strip() for line in lines)


def test_rows_that_were_trained_on_are_said_to_be(
    multilayer: Run, tmp_path: Path, iris_csv: Path
) -> None:
    """By the file's place, if it has changed since, and by the values, if it is a copy."""
    lines = iris_csv.read_text().splitlines(keepends=True)
    (tmp_path / "val.csv").write_text("".join(lines[:1] + lines[1::3]))
    (tmp_path / "new.csv").write_text("".join(lines[:1] + lines[40:70]))
    table = ["data=table", "data.path=iris.csv", "data.target=species", "trainer.max_epochs=1"]
    table += ["data.validation_path=val.csv", "hydra.run.dir=r"]
    assert multilayer("train", *table).code == 0

    def evaluated(path: str) -> tuple[str, str]:
        outcome = multilayer("evaluate", "run=r", f"data.path={path}")
        assert outcome.code == 0, outcome.err
        return header(outcome.out), outcome.err

    assert evaluated("val.csv") == ("50 rows of val.csv, which decided the best epoch", "")
    assert evaluated("new.csv") == ("30 rows of new.csv", "")
    seen, why = evaluated("iris.csv")
    assert seen == "150 rows of iris.csv, which was trained on"
    assert "the run's test rows are evaluated without data.path" in why
    iris_csv.write_text("".join(lines[:100]))
    assert evaluated("iris.csv")[0] == "99 rows of iris.csv, which was trained on"


def test_a_copy_of_the_training_table_is_known_by_its_values(
    multilayer: Run, tmp_path: Path, iris_csv: Path
) -> None:
    """Wherever it is now."""
    table = ["data=table", "data.path=iris.csv", "data.target=species", "trainer.max_epochs=1"]
    assert multilayer("train", *table, "hydra.run.dir=r").code == 0
    iris_csv.rename(tmp_path / "other.csv")
    outcome = multilayer("evaluate", "run=r", "data.path=other.csv")
    assert header(outcome.out) == "150 rows of other.csv, which was trained on", outcome.err


def test_one_row_is_a_row_and_what_can_no_longer_be_followed_is_not_advised(
    multilayer: Run, tmp_path: Path
) -> None:
    """The columns are those of the training, where the same was said."""
    rows = [f"{row},{row % 7},{int(row % 7 > 3)}" for row in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["id,x,y", *rows]) + "\n")
    (tmp_path / "one.csv").write_text(f"id,x,y\n{rows[0]}\n")
    words = ["data=table", "data.path=t.csv", "data.target=y", "trainer.max_epochs=1"]
    trained = multilayer("train", *words, "hydra.run.dir=r")
    assert "column 'id' has another number in every row" in trained.err
    for source in ([], ["data.path=one.csv"]):
        outcome = multilayer("evaluate", "run=r", *source)
        assert outcome.code == 0, outcome.err
        assert "drop_columns" not in outcome.err
    assert "1 row of one.csv" in outcome.out


def test_data_that_changed_since_the_training_is_told(
    multilayer: Run, tmp_path: Path, iris_csv: Path
) -> None:
    """The rows are others then, and so may be the metrics."""
    table = ["data=table", "data.path=iris.csv", "data.target=species", "trainer.max_epochs=2"]
    assert multilayer("train", *table).code == 0
    (folder,) = tmp_path.glob("runs/*/*")
    lines = iris_csv.read_text().splitlines()
    iris_csv.write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n")
    outcome = multilayer("evaluate", f"run={folder}")
    assert outcome.code == 0
    assert "the data has changed since the training" in outcome.err


def test_the_folder_of_a_day_names_a_run_in_it(multilayer: Run, tmp_path: Path) -> None:
    """Who gives the folder above is told the one below."""
    assert multilayer("train", "data=iris", "trainer.max_epochs=1").code == 0
    outcome = multilayer("evaluate", "run=runs")
    (folder,) = tmp_path.glob("runs/*/*")
    assert outcome.code == 2
    assert f"did you mean {folder.relative_to(tmp_path)}?" in outcome.err
