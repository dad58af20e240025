"""The progress bar, on a terminal that is made up."""

import io

import pytest
import pytorch_lightning as pl
from rich.console import Console

from multilayer import MLP, BuiltinData, MulticlassModule
from multilayer.callbacks import TrainingProgress


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_bar_counts_epochs_and_shows_the_losses(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    """On a terminal a bar, elsewhere lines."""
    import torch

    monkeypatch.setattr("multilayer.callbacks.progress.SECONDS_BETWEEN_LINES", -1.0)
    progress = TrainingProgress()
    screen = io.StringIO()
    progress.console = Console(file=screen, force_terminal=is_terminal, width=120)
    progress.disable()  # as Lightning does while it searches a learning rate
    progress.enable()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=2,
        callbacks=[progress],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    data = BuiltinData(name="iris")
    module = MulticlassModule(
        MLP(4, 3),
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
    )
    trainer.fit(module, data)
    text = screen.getvalue()
    assert "2/2" in text
    assert f"validation {trainer.callback_metrics['validation/loss']:#.3g}" in text
    assert ("━" in text) == is_terminal
