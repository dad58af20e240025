"""Sweeps whose metric does not mean the same in all runs."""

from pathlib import Path

from multilayer.reports.sweep import open_sweep

from .fake_sweeps import write_run


def write_losses(folder: Path) -> None:
    """Two of which the lower one belongs to the worse classifier."""
    for number, (smoothing, loss, accuracy) in enumerate([(0.0, 0.1, 0.8), (0.3, 0.9, 0.9)]):
        metrics = {"validation": {"loss": loss, "accuracy": accuracy}}
        write_run(folder / str(number), metrics=metrics, loss__label_smoothing=smoothing)


def test_where_losses_differ_the_accuracy_decides(tmp_path: Path) -> None:
    """And it is said why."""
    write_losses(tmp_path)
    sweep = open_sweep(tmp_path)
    assert (sweep.metric, sweep.mode) == ("validation/accuracy", "max")
    assert "loss.label_smoothing varied" in sweep.warnings[0]
    assert "ranked by validation/accuracy" in sweep.warnings[0]


def test_the_loss_decides_if_the_user_says_so(tmp_path: Path) -> None:
    """With a caution."""
    write_losses(tmp_path)
    sweep = open_sweep(tmp_path, "validation/loss")
    assert (sweep.metric, sweep.mode) == ("validation/loss", "min")
    assert "not comparable" in sweep.warnings[0]


def test_of_different_data_no_metric_is_comparable(tmp_path: Path) -> None:
    """By the key, or by what the data are; seeds and folds are no other data."""
    for number, name in enumerate(("iris", "wine")):
        write_run(tmp_path / "key" / str(number), 0.5, data__name=name)
        about = {"data_fingerprint": name}
        write_run(tmp_path / "print" / str(number), 0.5, manifest=about, experiment=name)
        write_run(tmp_path / "fold" / str(number), 0.5, data__fold=number, optimizer__lr=0.1)
    assert "of different data" in open_sweep(tmp_path / "key").warnings[0]
    assert "of different data" in open_sweep(tmp_path / "print").warnings[0]
    assert open_sweep(tmp_path / "fold").warnings == []
