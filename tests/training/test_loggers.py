"""What TensorBoard finds in the event files of a run."""

import re
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

from multilayer.training import TensorBoard

from ..trained import train_in

QUICK = ["trainer.max_epochs=2", "callbacks=none", "trainer.log_every_n_steps=1"]


@pytest.mark.parametrize("engine", ["lightning", "lockstep"])
@pytest.mark.parametrize("data", ["iris", "diabetes"])
def test_training_and_validation_have_one_chart_for_each_metric(
    data: str, engine: str, tmp_path: Path
) -> None:
    """Whatever the callbacks, and the loss of each step stays out of it."""
    result = train_in(tmp_path, f"data={data}", f"engine={engine}", *QUICK)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    (event,) = events.Tensors("custom_scalars__config__")
    (category,) = Layout.FromString(event.tensor_proto.string_val[0]).category
    assert [chart.title for chart in category.chart] == list(result.metrics["train"])
    for chart in category.chart:
        shown = [
            tag
            for tag in events.Tags()["scalars"]
            if any(re.match(pattern, tag) for pattern in chart.multiline.tag)
        ]
        assert shown == [f"train/{chart.title}", f"validation/{chart.title}"]


def test_hyperparameters_that_a_module_of_yours_logs_are_in_the_event_file(tmp_path: Path) -> None:
    """Lightning adds them by a private method of torch's writer, which the event file has too.

    The folder need not be there.
    """
    logger = TensorBoard(str(tmp_path / "runs" / "mine"))
    logger.log_hyperparams({"width": 3}, {"score": 0.5})
    logger.finalize("success")
    events = EventAccumulator(str(tmp_path / "runs" / "mine" / "tensorboard")).Reload()
    assert "_hparams_/session_start_info" in events.summary_metadata
    assert len([*tmp_path.rglob("*tfevents*")]) == 1
