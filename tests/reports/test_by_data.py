"""Sweeps over data sets: there is no best one across them."""

import re
import shutil
from pathlib import Path

import polars as pl

from multilayer.reports.report import report
from multilayer.reports.runs import group_by_data
from multilayer.reports.summary import _sweep_table
from multilayer.reports.sweep import open_sweep

from ..conftest import Run
from .fake_sweeps import write_run


def write_two(folder: Path) -> None:
    """Two rates on two data sets with three seeds; of regression, which has no accuracy."""
    number = 0
    for name, metric in (("iris", "accuracy"), ("diabetes", "rmse")):
        for rate in (0.1, 0.01):
            for seed in range(3):
                loss = rate * (1 + 0.1 * seed) + (name == "diabetes")
                metrics = {"validation": {"loss": loss, metric: 1 - loss}}
                values = {"data__name": name, "optimizer__lr": rate, "seed": seed}
                about = {"data_fingerprint": name}
                write_run(folder / str(number), metrics=metrics, manifest=about, **values)
                number += 1


def test_each_data_set_has_its_own_best_config(tmp_path: Path) -> None:
    """With its test, findings and figures; none is drawn or said across them."""
    write_two(tmp_path)
    path = report({"sweep": str(tmp_path), "metric": None})
    text = path.read_text()
    assert "of different data, and those of each are compared by themselves" in text
    iris, diabetes = text.split("## data.name=")[1:]
    for name, own in (("iris", iris), ("diabetes", diabetes)):
        assert f"multilayer train data.name={name} optimizer.lr=0.01" in own
        assert "over 3 shared seeds" in own
        assert f"(figures/data.name={name}/" in own
    assert "The loss is of the standardized target" in diabetes
    assert "standardized" not in iris
    table = pl.read_csv(tmp_path / "configs.csv")
    assert table["of"].to_list() == ["data.name=iris"] * 2 + ["data.name=diabetes"] * 2
    assert table["rank"].to_list() == [1, 2, 1, 2]
    assert len(pl.read_csv(tmp_path / "runs.csv")) == 12


def test_a_metric_that_one_of_the_tasks_lacks_is_replaced_there(tmp_path: Path) -> None:
    """By the one that its runs monitor."""
    write_two(tmp_path)
    text = report({"sweep": str(tmp_path), "metric": "validation/accuracy"}).read_text()
    iris, diabetes = text.split("## data.name=")[1:]
    assert "best mean of validation/accuracy (max)" in iris
    assert "best mean of validation/loss (min)" in diabetes


def test_the_best_of_each_data_set_is_marked_at_the_end_of_a_sweep(tmp_path: Path) -> None:
    """In the table of the runs."""
    write_two(tmp_path)
    runs = open_sweep(tmp_path).runs
    rows = _sweep_table(runs, "validation/loss", "min").rows
    assert [run.name for run, row in zip(runs, rows, strict=True) if row.style] == ["3", "9"]


def test_data_are_told_apart_by_their_key_and_by_what_they_are(tmp_path: Path) -> None:
    """Seeds and folds are no other data, nor are columns that a sweep leaves out."""
    for number, name in enumerate(("iris", "wine")):
        about = {"data_fingerprint": name}
        write_run(tmp_path / "key" / str(number), 0.5, data__name=name)
        write_run(tmp_path / "file" / str(number), 0.5, manifest=about, experiment=name)
        write_run(tmp_path / "fold" / str(number), 0.5, data__fold=number, optimizer__lr=0.1)
        dropped = {"data__drop_columns": [name], "optimizer__lr": 0.1}
        write_run(tmp_path / "ablation" / str(number), 0.5, manifest=about, **dropped)
    groups = {
        each: [*group_by_data(open_sweep(tmp_path / each).runs)]
        for each in ("key", "file", "fold", "ablation")
    }
    assert groups["key"] == ["data.name=iris", "data.name=wine"]
    assert groups["file"] == ["data", "data (version 2)"]
    assert len(groups["fold"]) == len(groups["ablation"]) == 1


def test_a_file_that_changed_is_other_data_whatever_else_varied(tmp_path: Path) -> None:
    """A batch size does not change what is read; of the columns that are left out each is apart."""
    for number, (size, version) in enumerate([(16, "a"), (32, "a"), (64, "b"), (8, "b")]):
        about = {"data_fingerprint": version}
        values = {"data__batch_size": size, "data__drop_columns": "x"}
        write_run(tmp_path / "sizes" / str(number), 0.5, manifest=about, **values)
        values = {"data__drop_columns": ["x", "z"][number % 2], "optimizer__lr": size}
        about = {"data_fingerprint": version + str(number % 2)}
        write_run(tmp_path / "columns" / str(number), 0.5, manifest=about, **values)
    for name in ("sizes", "columns"):
        groups = group_by_data(open_sweep(tmp_path / name).runs)
        assert [len(each) for each in groups.values()] == [2, 2]


def test_runs_of_earlier_attempts_and_of_others_are_no_runs_of_a_sweep(
    multilayer: Run, tmp_path: Path
) -> None:
    """What a ledger has set aside, and a run that somebody has put below."""
    words = ["train", "-m", "data=iris", "trainer.max_epochs=1", "hydra.sweep.dir=s", "seed=0,1"]
    assert multilayer(*words).code == 0
    manifest = tmp_path / "s" / "0" / "manifest.json"
    manifest.write_text(re.sub('"torch": "[^"]*"', '"torch": "1.0"', manifest.read_text()))
    assert multilayer(*words, "sweep.redo=changed").code == 0
    assert [*(tmp_path / "s" / "ledger").rglob("manifest.json")]
    shutil.copytree(tmp_path / "s" / "1", tmp_path / "s" / "final" / "best")
    assert [run.name for run in open_sweep(tmp_path / "s").runs] == ["0", "1"]
