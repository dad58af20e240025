"""The reliability diagram, read back from the figure."""

import numpy as np

from multilayer.plotting import draw_calibration


def test_the_dots_are_the_share_of_rows_in_each_bin() -> None:
    """Those of a predictor that is always right about its chances lie on the line."""
    chance = np.repeat([0.1, 0.5, 0.9], 10)
    happened = np.concatenate([np.arange(10) < n for n in (1, 5, 9)]).astype(int)
    figure = draw_calibration(chance, happened, predicted="p", observed="share", title="epoch 1")
    (dots,) = figure.axes[0].collections
    assert np.allclose(dots.get_offsets(), [(0.1, 0.1), (0.5, 0.5), (0.9, 0.9)])
    heights = [bar.get_height() for bar in figure.axes[1].patches]
    assert [height for height in heights if height] == [10, 10, 10]
