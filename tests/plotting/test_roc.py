"""ROC curves, read back from the figure."""

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import auc, roc_auc_score

from multilayer.plotting import draw_roc


def guesses(n_classes: int, n_rows: int = 200) -> tuple[Any, Any]:
    """Probabilities `(n_rows, n_classes)`, and classes drawn by them."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(n_classes), n_rows)
    target = np.array([rng.choice(n_classes, p=row) for row in probabilities])
    return probabilities.astype(np.float32), target


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


def test_where_all_curves_are_in_the_corner_it_alone_is_drawn() -> None:
    """At an area of 0.99 the rest is empty; the title says so, and the axes have their terms."""
    rng = np.random.default_rng(0)
    target = np.arange(2000) % 2
    second = np.clip(0.5 * target + rng.normal(0.25, 0.15, 2000), 0, 1)
    for spread, side in ((0.0, 0.1), (0.6, 1.0)):
        mixed = np.clip(second + spread * rng.normal(size=2000), 0, 1)
        figure = draw_roc(np.stack([1 - mixed, mixed], axis=1), target, ["no", "yes"], "epoch 1")
        assert figure is not None
        (axes,) = figure.axes
        assert axes.get_xlim() == pytest.approx((-0.02 * side, 1.02 * side))
        assert axes.get_ylim() == pytest.approx((1 - 1.02 * side, 1 + 0.02 * side))
        assert ("upper left corner" in axes.get_title()) == (side < 1)
        assert axes.get_xlabel().startswith("false positive rate")
        assert axes.get_ylabel().startswith("true positive rate")
