"""`last.ckpt` and `best.ckpt` are of the last epoch, whichever callback ends the training."""

import signal
from pathlib import Path

import pytest
import pytorch_lightning as pl

from multilayer.runs.checkpoint import read_checkpoint
from multilayer.training.epoch_callback import EpochCallback, Record

from ..conftest import Run
from ..trained import same, train_in, weights_of

QUICK = ["data=iris", "data.batch_size=16", "optimizer.lr=0.05", "logger=none"]


class Stops(EpochCallback):
    """Stops a run in one of its hooks, in the second epoch or before the first."""

    def __init__(self, hook: str) -> None:
        setattr(self, hook, self.stop)

    def stop(self, record: Record) -> None:
        if record.epoch[0] in (0, 2):
            record.stop("that will do")
            assert record.is_last


class LightningStops(pl.Callback):
    """Stops it as a callback of Lightning's does."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch == 1


class Terminates(EpochCallback):
    """Has the system end the process at the end of the second epoch, until there is `mended`."""

    def on_epoch_end(self, record: Record) -> None:
        if record.epoch[0] == 2 and not Path("mended").exists():
            signal.raise_signal(signal.SIGTERM)


OURS = [
    ("Stops,hook:on_fit_start", 1),
    ("Stops,hook:on_epoch_start", 2),
    ("Stops,hook:on_validation_end", 2),
    ("Stops,hook:on_epoch_end", 2),
]


@pytest.mark.parametrize(
    ("engine", "stops", "n_epochs"),
    [
        *(("lightning", *each) for each in [*OURS, ("LightningStops", 2)]),
        *(("lockstep", *each) for each in OURS),
    ],
)
def test_a_run_that_a_later_callback_stops_has_the_checkpoints_of_one_of_so_many_epochs(
    tmp_path: Path, engine: str, stops: str, n_epochs: int
) -> None:
    """A stop takes effect at the end of its epoch, also where it comes before the first step."""
    words = [*QUICK, f"engine={engine}", "callbacks.progress=null", "trainer.min_epochs=null"]
    words.append("scheduler=constant")  # another one would follow the number of epochs
    own = f"+callbacks.stops={{_target_:{__name__}.{stops}}}"
    stopped = train_in(tmp_path / "stopped", *words, own)
    whole = train_in(tmp_path / "whole", *words, f"trainer.max_epochs={n_epochs}")
    assert stopped.metrics == whole.metrics
    for name in ("best.ckpt", "last.ckpt"):
        assert same(*(weights_of(tmp_path / run, name) for run in ("stopped", "whole")))
    ours, theirs = (
        read_checkpoint(tmp_path / run / "checkpoints" / "last.ckpt")
        for run in ("stopped", "whole")
    )
    for key in ("epoch", "global_step", "loops"):
        assert ours[key] == theirs[key]
    assert ours["callbacks"]["History"]["columns"]["epoch"] == [*range(1, n_epochs + 1)]
    if stops.startswith("Stops"):
        assert stopped.manifest["stop_reason"] == "that will do"


@pytest.mark.parametrize("launcher", ["basic", "lockstep"])
@pytest.mark.parametrize("n_epochs", [2, 3])
def test_an_interrupt_after_an_epoch_leaves_the_checkpoints_of_an_undisturbed_run(
    launcher: str, n_epochs: int, multilayer: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after the last epoch; Lightning's checkpoints then had one epoch more."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    words = ["train", "-m", *QUICK, f"hydra/launcher={launcher}", "compile=false", "seed=0,1"]
    words += [f"trainer.max_epochs={n_epochs}", f"+callbacks.own._target_={__name__}.Terminates"]
    assert multilayer(*words, "hydra.sweep.dir=sweep").code == 143
    Path("mended").touch()
    for folder in ("sweep", "whole"):
        assert multilayer(*words, f"hydra.sweep.dir={folder}").code == 0
    for path in sorted(Path("whole").glob("*/checkpoints/*.ckpt")):
        ours, theirs = read_checkpoint("sweep" / path.relative_to("whole")), read_checkpoint(path)
        for key in ("epoch", "global_step", "loops"):
            assert ours.get(key) == theirs.get(key), path
