"""The decision boundary, read back from the figure."""

from typing import Any

import numpy as np
from sklearn.datasets import load_iris

from multilayer.plotting import draw_boundary


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
