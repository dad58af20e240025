"""What the figures say, read back from them, and where they go."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread
from sklearn.datasets import load_diabetes, load_iris
from sklearn.metrics import auc, confusion_matrix, roc_auc_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from multilayer import MLP, BinaryModule, BuiltinData, PassClassData, RegressionModule
from multilayer.callbacks import Figures
from multilayer.callbacks.prediction_figures import figures_of
from multilayer.data import Preprocessing
from multilayer.plotting.predictions import (
    draw_boundary,
    draw_calibration,
    draw_confusion_matrix,
    draw_predicted,
    draw_roc,
)
from multilayer.runs.checkpoint import read_checkpoint

from ..training.test_run import train_in


def guesses(n_classes: int, n_rows: int = 200) -> tuple[Any, Any]:
    """Probabilities `(n_rows, n_classes)`, and classes drawn by them."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(n_classes), n_rows)
    target = np.array([rng.choice(n_classes, p=row) for row in probabilities])
    return probabilities.astype(np.float32), target


def texts(figure: Figure) -> list[str]:
    """The words in the first axes."""
    return [text.get_text() for text in figure.axes[0].texts]


def test_the_matrix_counts_the_rows() -> None:
    """As scikit-learn does, and cells without rows are empty."""
    probabilities, target = guesses(4)
    labels = probabilities.argmax(axis=1)
    figure = draw_confusion_matrix(labels, target, list("abcd"), "epoch 1")
    expected = confusion_matrix(target, labels)
    assert texts(figure) == [str(n) for n in expected.flatten() if n]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list("abcd")


def test_the_matrix_of_many_classes_has_no_numbers() -> None:
    """And not every class has a label; the labels are short, and their ends stay."""
    target = np.arange(30)
    names = [f"a long species name {i:02}" for i in target]
    figure = draw_confusion_matrix(target, target, names, "epoch 1")
    assert texts(figure) == []
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[:2] == ["a long …e 00", "a long …e 02"]


def test_a_class_without_rows_is_in_the_matrix() -> None:
    """The validation rows may lack one."""
    figure = draw_confusion_matrix(np.array([0, 2]), np.array([0, 0]), list("abc"), "epoch 1")
    assert texts(figure) == ["1", "1"]


def test_the_dots_are_the_share_of_rows_in_each_bin() -> None:
    """Those of a predictor that is always right about its chances lie on the line."""
    chance = np.repeat([0.1, 0.5, 0.9], 10)
    happened = np.concatenate([np.arange(10) < n for n in (1, 5, 9)]).astype(int)
    figure = draw_calibration(chance, happened, predicted="p", observed="share", title="epoch 1")
    (dots,) = figure.axes[0].collections
    assert np.allclose(dots.get_offsets(), [(0.1, 0.1), (0.5, 0.5), (0.9, 0.9)])
    heights = [bar.get_height() for bar in figure.axes[1].patches]
    assert [height for height in heights if height] == [10, 10, 10]


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_areas_are_those_of_scikit_learn(n_classes: int) -> None:
    """Of two classes the second's curve says it all."""
    probabilities, target = guesses(n_classes)
    names = [f"class {k}" for k in range(n_classes)]
    figure = draw_roc(probabilities, target, names, "epoch 1")
    assert figure is not None
    lines = figure.axes[0].get_lines()[1:]
    shown = range(n_classes) if n_classes > 2 else [1]
    expected = [roc_auc_score(target == k, probabilities[:, k]) for k in shown]
    assert [line.get_label() for line in lines] == [
        f"class {k}  {area:.3f}" for k, area in zip(shown, expected, strict=True)
    ]
    areas = [auc(line.get_xdata(), line.get_ydata()) for line in lines]
    assert areas == pytest.approx(expected)


def test_of_many_classes_those_with_the_least_area_have_a_curve() -> None:
    """As many as there are colours that everybody tells apart."""
    probabilities, target = guesses(12)
    probabilities[:, 5] = np.where(target == 5, 0.0, 1.0)  # always wrong
    figure = draw_roc(probabilities, target, [str(k) for k in range(12)], "epoch 1")
    assert figure is not None
    labels = [line.get_label() for line in figure.axes[0].get_lines()[1:]]
    assert len(labels) == 7
    assert "5  0.000" in labels
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert "the lowest 7 of 12" in legend.get_title().get_text()


def test_there_is_no_curve_of_a_single_class() -> None:
    """Validation rows that are all alike."""
    assert draw_roc(guesses(3)[0], np.zeros(200, int), list("abc"), "epoch 1") is None


def test_predicted_against_true_has_a_point_for_each_row() -> None:
    """In the units that it is given."""
    target, predictions = np.array([10.0, 20.0, 30.0]), np.array([12.0, 18.0, 33.0])
    axes = draw_predicted(predictions, target, "price", "epoch 1").axes[0]
    assert np.allclose(axes.collections[0].get_offsets(), np.stack([target, predictions], axis=1))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("price, true", "price, predicted")
    assert axes.get_xlim() == axes.get_ylim()


def test_the_boundary_is_where_the_probability_is_one_half() -> None:
    """Of a predictor whose boundary is known; of several classes there are regions."""
    iris = load_iris()
    rows = {"train": (iris.data[::2, 2:], iris.target[::2])}
    rows["validation"] = (iris.data[1::2, 2:], iris.target[1::2])

    def predict(columns: Any) -> Any:
        chance = 1 / (1 + np.exp(-(columns[:, 0] - 3)))
        return np.stack([1 - chance, chance], axis=1)

    about = {"target": "big", "title": "epoch 1"}
    two = {split: (columns, (target > 0).astype(int)) for split, (columns, target) in rows.items()}
    figure = draw_boundary(predict, two, ["length", "width"], ["no", "yes"], **about)
    line = next(each for each in figure.axes[0].collections if np.size(each.get_linewidth()) == 1
                and each.get_linewidth()[0] == 2)  # fmt: skip
    (path,) = line.get_paths()
    assert np.allclose(path.vertices[:, 0], 3, atol=0.01)
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("length", "width")

    def three(columns: Any) -> Any:
        return np.stack([columns[:, 0] < 2, columns[:, 1] < 1.6, columns[:, 1] > 1.6], axis=1)

    figure = draw_boundary(three, rows, ["length", "width"], list("abc"), **about)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["a", "b", "c", "black edge: validation"]


@pytest.mark.parametrize("numbers", ["standard", "quantile"])
def test_the_scaling_of_numbers_is_undone(numbers: Any) -> None:
    """Up to rounding, beside a category and the mark of a missing value."""
    generator = torch.Generator().manual_seed(0)
    columns = torch.rand(300, 3, generator=generator) * torch.tensor([1.0, 100.0, 0.0])
    columns[::7, 1] = 50.0  # ties
    columns[5, 0] = torch.nan
    preprocessing = Preprocessing(3, n_labels={2: 1}, numeric_scaling=numbers).fit_(columns)
    found = preprocessing.unscale_numbers(preprocessing(columns))
    columns[5, 0] = preprocessing.median[0]
    assert torch.allclose(found, columns[:, :2], rtol=1e-4, atol=1e-4)


def test_the_figures_of_a_run_are_in_its_folder_and_over_epochs_in_tensorboard(
    tmp_path: Path,
) -> None:
    """After epochs 1, 2, 4 and the last, at the steps of the curves."""
    train_in(tmp_path, "experiment=pass_class", "trainer.max_epochs=5", "optimizer.lr=0.1")
    names = ["boundary", "calibration", "confusion_matrix", "roc"]
    for name in names:
        assert imread(tmp_path / "figures" / f"{name}.png").std() > 0.01
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    drawn = [tag for tag in events.Tags()["images"] if tag.startswith("figures/")]
    assert sorted(drawn) == [f"figures/{name}" for name in names]
    steps = [event.step for event in events.Scalars("validation/loss")]
    for name in names:
        found = [event.step for event in events.Images(f"figures/{name}")]
        assert found == [steps[epoch - 1] for epoch in (1, 2, 4, 5)]


@pytest.mark.parametrize("order", ["default,figures", "figures,default"])
def test_the_pictures_are_of_the_best_weights(
    order: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the callback stands, and the last weights are those that it found."""
    seen = []

    def note(module: Any, data: Any, n_rows: int, when: str) -> dict[str, Figure]:
        weights = {name: value.clone() for name, value in module.state_dict().items()}
        seen.append((when, weights))
        return {}

    monkeypatch.setattr("multilayer.callbacks.prediction_figures.figures_of", note)
    result = train_in(
        tmp_path, "data=pass_class", "optimizer.lr=0.1", "trainer.max_epochs=20",
        "callbacks.early_stopping.patience=3", f"callbacks=[{order}]",
    )  # fmt: skip
    best = result.manifest["best_epoch"]
    (when, weights), (last, last_weights) = seen[-1], seen[-2]
    assert when == f"epoch {best}, the best"
    assert last == f"epoch {best + 3}"
    for name, file in ((weights, "best.ckpt"), (last_weights, "last.ckpt")):
        saved = read_checkpoint(tmp_path / "checkpoints" / file)["state_dict"]
        assert all(torch.equal(value, saved[key]) for key, value in name.items())


def test_numbers_are_in_the_units_of_the_target() -> None:
    """Not standardised, as the network has them."""
    data = BuiltinData(name="diabetes")
    data.setup()
    module = RegressionModule(
        MLP(data.preprocessing.n_features, 1), preprocessing=data.preprocessing
    )
    figures = figures_of(module, data, 10_000, "epoch 1")
    assert list(figures) == ["predicted"]
    points = np.asarray(figures["predicted"].axes[0].collections[0].get_offsets())
    expected = load_diabetes().target[data.rows["validation"].numpy()]
    assert np.allclose(points[:, 0], expected, rtol=1e-5)


def test_there_are_no_figures_of_predictions_that_are_not_finite() -> None:
    """After a training that has diverged."""
    data = PassClassData()
    data.setup()
    network = MLP(2, 1)
    torch.nn.init.constant_(network[0].linear.weight, torch.nan)
    assert figures_of(BinaryModule(network), data, 100, "epoch 1") == {}


def test_rows_are_capped() -> None:
    """Evenly spread over those that there are."""
    data = PassClassData()
    data.setup()
    figures = figures_of(BinaryModule(MLP(2, 1)), data, 30, "epoch 1")
    assert figures["roc"].axes[0].get_title() == "epoch 1: 30 validation rows"


def test_no_rows_at_all_are_refused() -> None:
    """It would draw nothing."""
    with pytest.raises(ValueError, match="n_rows must be at least 1, got 0"):
        Figures(folder="figures", n_rows=0)


def test_two_columns_of_a_users_table_have_a_boundary(tmp_path: Path) -> None:
    """With three classes, and numbers scaled by quantiles."""
    iris = load_iris()
    frame = pl.DataFrame({"length": iris.data[:, 2], "width": iris.data[:, 3]})
    frame.with_columns(
        species=pl.Series([str(iris.target_names[k]) for k in iris.target])
    ).write_csv(tmp_path / "iris.csv")
    train_in(
        tmp_path / "run", "data=table", f"data.path={tmp_path / 'iris.csv'}", "data.target=species",
        "data.numeric_scaling=quantile", "trainer.max_epochs=1", "callbacks=figures", "logger=none",
    )  # fmt: skip
    assert (tmp_path / "run" / "figures" / "boundary.png").is_file()
