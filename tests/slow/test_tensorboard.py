"""TensorBoard on a finished sweep, as a real browser shows it."""

import json
import re
from pathlib import Path

import pytest
from browser import NAMES, TEXT, browsing, find_chromium, open_page, serving, wait_for, wait_until

from ..conftest import Run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_chromium() is None, reason=f"no browser: none of {', '.join(NAMES)} is installed"
    ),
]

ROW = r"(\d)((?: \d[\d.e-]*){6})"
"""A run and its two swept values and four metrics, in Python as in the browser."""

SWEPT = [(lr, seed) for lr in (0.001, 0.01) for seed in (0, 1)]


def test_a_browser_shows_the_scalars_and_a_row_for_each_run(
    multilayer: Run, tmp_path: Path
) -> None:
    """The curves of all runs, training and validation in one chart, and the swept values."""
    outcome = multilayer(
        "train", "-m", "hydra/launcher=lockstep", "data=iris", "trainer.max_epochs=3",
        "optimizer.lr=0.001,0.01", "seed=0,1", "hydra.sweep.dir=sweep",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    sweep = tmp_path / "sweep"
    runs = [f"{job}/tensorboard" for job in range(4)]
    with serving(sweep) as address, browsing() as page:
        open_page(page, f"{address}#timeseries")
        wait_for(page, *runs, "train 6 cards", "validation 6 cards", "lr-AdamW")

        open_page(page, f"{address}#custom_scalars")
        splits = ("train", "validation", "turning_point")
        curves = [f"{split}/loss ({run})" for split in splits for run in runs]
        wait_for(page, "train and validation", "Matches (12)", *curves)

        open_page(page, f"{address}#hparams")
        table = wait_until(
            page,
            f"(table => (table.match(/{ROW}/g) || []).length === {len(runs)} && table)"
            f"({TEXT}.split('Show Metrics').at(1)?.split('Color by')[0] ?? '')",
        )
        names = "optimizer.lr seed validation/loss validation/accuracy test/loss test/accuracy"
        assert table.strip().startswith(names)
        rows = re.findall(ROW, table)
        assert [int(job) for job, _ in rows] == [0, 1, 2, 3]
        for (job, values), swept in zip(rows, SWEPT, strict=True):
            final = json.loads((sweep / job / "metrics.json").read_text())
            metrics = [
                final[split][name]
                for split in ("validation", "test")
                for name in ("loss", "accuracy")
            ]
            shown = [float(value) for value in values.split()]
            assert shown == pytest.approx([*swept, *metrics], rel=1e-4)
        text = page.evaluate(TEXT)
        assert "hp_metric" not in text
        assert "_target_" not in text
