"""The confusion matrix, read back from the figure."""

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix

from multilayer.plotting import draw_confusion_matrix

from .test_roc import guesses


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
