"""Predicted against true values, read back from the figure."""

import numpy as np

from multilayer.plotting import draw_predicted


def test_predicted_against_true_has_a_point_for_each_row() -> None:
    """In the units that it is given."""
    target, predictions = np.array([10.0, 20.0, 30.0]), np.array([12.0, 18.0, 33.0])
    axes = draw_predicted(predictions, target, "price", "epoch 1").axes[0]
    assert np.allclose(axes.collections[0].get_offsets(), np.stack([target, predictions], axis=1))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("price, true", "price, predicted")
    assert axes.get_xlim() == axes.get_ylim()
