"""A run that is trained once more, on training and validation rows together."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from multilayer.callbacks.checkpoint import Checkpoint
from multilayer.callbacks.diagnostics import Diagnostics
from multilayer.core.errors import UserError
from multilayer.data import BuiltinDataset, Dataset
from multilayer.data.batches import EpochShuffle
from multilayer.data.preprocessing import Preprocessing
from multilayer.nn import MLP, CrossEntropy
from multilayer.runs.checkpoint import read_checkpoint
from multilayer.runs.folder import RunFolder, find_state
from multilayer.training import cosine
from multilayer.training.components import make_data
from multilayer.training.epoch_callback import EpochCallback, Record
from multilayer.training.run import train as train_with_lightning
from multilayer.training.runtime import seed_everything

from ..conftest import Run
from ..trained import config_of, same, train_in, weights_of

WORDS = [
    "data=iris", "data.batch_size=16", "model.d_hidden=[8]", "model.dropout=0.3", "seed=3",
    "loss=cross_entropy", "optimizer=adam", "optimizer.lr=0.02", "scheduler=cosine",
    "trainer.max_epochs=12",
    "callbacks.early_stopping.patience=2", "callbacks.early_stopping.min_delta=0.5",
    "compile=false",
]  # fmt: skip
"""It stops early: its best epoch is the third."""


@pytest.fixture(scope="module")
def refitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with a refit, which tests only read."""
    folder = tmp_path_factory.mktemp("refit") / "run"
    train_in(folder, *WORDS, "refit=true")
    return folder


def manifest_in(folder: Path) -> dict[str, Any]:
    """That of a run."""
    manifest: dict[str, Any] = RunFolder(folder).read_manifest()
    return manifest


def history_in(folder: Path) -> pl.DataFrame:
    """The table of a run, without its times."""
    return pl.read_csv(folder / "history.csv").drop("seconds")


def joined(data: Dataset) -> torch.Tensor:
    """The rows that a refit trains on."""
    return torch.cat([data.rows["train"], data.rows["validation"]])


def test_it_is_what_plain_torch_trains_on_the_joined_rows(refitted: Path) -> None:
    """To the bit: preprocessing, initial weights, order, dropout, schedule and end."""
    data = BuiltinDataset(name="iris")
    data.setup()
    table, rows = data.load(), joined(data)
    preprocessing = Preprocessing.of(table.columns).fit_(table.features, rows=rows.sort().values)
    seed_everything(3)
    network, loss = MLP(4, 3, d_hidden=[8], dropout=0.3), CrossEntropy()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02, fused=True)
    schedule = cosine(optimizer, n_steps=12 * 8, warmup_fraction=0.05, final_fraction=0.0)
    order, features = EpochShuffle(127, 3), preprocessing(table.features)
    n_epochs = manifest_in(refitted)["best_epoch"]
    assert 1 < n_epochs < 12
    for epoch in range(n_epochs):
        order.set_epoch(epoch)
        for some in order.order().split(16):
            optimizer.zero_grad()
            loss(network(features[rows[some]]), table.target[rows[some]]).backward()
            optimizer.step()
            schedule.step()
    weights = weights_of(refitted / "refit", "last.ckpt")
    expected = {f"network.{name}": value for name, value in network.state_dict().items()}
    assert same({name: weights[name] for name in expected}, expected)


def test_the_run_itself_is_what_it_is_without(refitted: Path, tmp_path: Path) -> None:
    """So that configs are compared by a validation of rows that nothing was trained on."""
    train_in(tmp_path / "plain", *WORDS)
    for name in ("best.ckpt", "last.ckpt"):
        assert same(weights_of(refitted, name), weights_of(tmp_path / "plain", name))
    assert history_in(refitted).equals(history_in(tmp_path / "plain"))
    metrics = [(each / "metrics.json").read_bytes() for each in (refitted, tmp_path / "plain")]
    assert metrics[0] == metrics[1]


def test_its_folder_is_that_of_a_run(refitted: Path) -> None:
    """It says what it is; there is no validation in it, and the same rate in the same epoch."""
    folder, first = refitted / "refit", manifest_in(refitted)
    manifest, n_epochs = manifest_in(folder), first["best_epoch"]
    assert first["refit"] is True
    assert (manifest["refit"], manifest["status"]) == (n_epochs, "done")
    assert manifest["stop_reason"] == f"reached refit={n_epochs}"
    assert manifest["rows"] == {"train": 127, "validation": 0, "test": 23}
    assert json.loads((folder / "metrics.json").read_text()).keys() == {"train", "test"}
    history, of_run = history_in(folder), history_in(refitted)
    assert not [name for name in history.columns if name.startswith("validation")]
    assert history["lr"].to_list() == pytest.approx(of_run["lr"].to_list()[:n_epochs], rel=0.1)
    assert find_state(refitted) == find_state(folder) == "finished"


@pytest.fixture
def grouped(tmp_path: Path) -> Path:
    """A table with groups, and a file of validation rows."""
    frame = pl.DataFrame(
        {"x": range(90), "site": [i // 6 for i in range(90)], "y": [i % 7 / 7 for i in range(90)]}
    )
    frame.write_csv(tmp_path / "rows.csv")
    frame[:20].write_csv(tmp_path / "more.csv")
    return tmp_path / "rows.csv"


@pytest.mark.parametrize(
    "words",
    [
        ["data=iris"],
        ["data=iris", "data.folds=3", "data.fold=1"],
        ["data=wine", "data.max_train_rows=40"],
        ["data=diabetes", "data.split_seed=5"],
        ["data=table", "data.path=rows.csv", "data.target=y", "data.group_column=site"],
        ["data=table", "data.path=rows.csv", "data.target=y", "data.validation_path=more.csv"],
    ],
)
def test_test_rows_stay_and_all_others_are_trained_on(
    words: list[str], grouped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the rows are split."""
    monkeypatch.chdir(grouped.parent)
    config = config_of(*words)
    first, refit = make_data(config), make_data(config | {"refit": 7})
    first.setup()
    refit.setup()
    assert torch.equal(refit.rows["test"], first.rows["test"])
    assert torch.equal(refit.rows["train"], joined(first))
    assert len(refit.rows["validation"]) == 0
    assert refit.fingerprint == first.fingerprint


def test_class_weights_are_those_of_the_joined_rows(tmp_path: Path) -> None:
    """Balanced by what is trained on."""
    words = ["data=breast_cancer", "loss=binary_cross_entropy", "loss.class_weights=balanced"]
    train_in(tmp_path / "run", *words, "trainer.max_epochs=2", "refit=true")
    data = BuiltinDataset(name="breast_cancer")
    data.setup()
    checkpoint = read_checkpoint(tmp_path / "run/refit/checkpoints/last.ckpt")
    weights = checkpoint["multilayer"]["config"]["loss"]["class_weights"]
    counts = data.targets[joined(data)].long().bincount()
    assert weights == pytest.approx((counts.sum() / (2 * counts)).tolist())


def test_the_command_says_what_was_done_and_how_to_use_it(
    multilayer: Run, refitted: Path, iris_csv: Path, tmp_path: Path
) -> None:
    """Its last line works with a file; the refit is evaluated as any run, and goes on as one."""
    words = [*WORDS, "hydra.run.dir=my run", "refit=true"]
    outcome = multilayer("train", *words)
    assert outcome.code == 0, outcome.err
    assert "test of refit" in outcome.out
    n_epochs = manifest_in(refitted)["best_epoch"]
    said = f"refit       {n_epochs} epochs on 127 rows, those of training and validation"
    assert said in outcome.out.splitlines()
    command = shlex.split(outcome.out.splitlines()[-1].partition("  ")[2])
    assert command[:2] == ["multilayer", "predict"]
    frame = pl.read_csv(iris_csv)
    frame.columns = [*BuiltinDataset(name="iris").load().columns.features, "species"]
    frame.drop("species").write_csv("new.csv")
    files = {"input=FILE": "input=new.csv", "output=FILE": "output=out.csv"}
    assert multilayer(*[files.get(word, word) for word in command[1:]]).code == 0
    assert pl.read_csv("out.csv").height == 150
    loss = json.loads((tmp_path / "my run/refit/metrics.json").read_text())["test"]["loss"]
    outcome = multilayer("evaluate", "run='my run/refit'")
    assert f"{loss:.6g}" in outcome.out
    outcome = multilayer("evaluate", "run='my run/refit'", "split=validation")
    assert outcome.code == 2
    assert "split=validation: a refit has been trained on these rows" in outcome.err


def test_a_refit_goes_on_for_more_epochs(refitted: Path, tmp_path: Path) -> None:
    """As if they had been found; fewer are refused with a number that does."""
    with pytest.raises(UserError, match=r"^refit=3: .* has 3 epochs already; give .* refit=4 on$"):
        train_in(tmp_path / "none", f"resume={refitted / 'refit'}")
    train_in(tmp_path / "longer", f"resume={refitted / 'refit'}", "refit=5")
    config = config_of(*WORDS) | {"refit": 5, "callbacks": {}}
    whole = train_with_lightning(config, tmp_path / "whole", [], quiet=True)
    assert whole.manifest["stop_reason"] == "reached refit=5"
    assert history_in(tmp_path / "longer").equals(history_in(tmp_path / "whole"))
    with pytest.raises(UserError, match=r"refit=false: .* is that of a refit"):
        train_in(tmp_path / "none", f"resume={refitted / 'refit'}", "refit=false")
    with pytest.raises(UserError, match=r"refit=1: .* is not that of a refit"):
        train_in(tmp_path / "none", f"resume={refitted}", "refit=1")


@pytest.fixture
def moments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Has the run in "whole" copied at each moment of its refit: what it leaves if killed then."""
    made: list[Path] = []

    def copy(folder: Path) -> None:
        if folder.name == "refit" and folder.parent.name == "whole":
            made.append(tmp_path / f"killed {len(made)}")
            shutil.copytree(folder.parent, made[-1])

    begin, on_epoch_end = RunFolder.begin, Checkpoint.on_epoch_end
    write_metrics = RunFolder.write_metrics

    def after_begin(self: RunFolder, *arguments: Any) -> None:
        copy(self.path)  # before the refit has a folder
        begin(self, *arguments)
        copy(self.path)

    def after_checkpoint(self: Checkpoint, record: Record) -> None:
        on_epoch_end(self, record)
        copy(self.folders[0].parent)

    def after_metrics(self: RunFolder, metrics: Any) -> None:
        write_metrics(self, metrics)
        copy(self.path)

    monkeypatch.setattr(RunFolder, "begin", after_begin)
    monkeypatch.setattr(RunFolder, "write_metrics", after_metrics)
    monkeypatch.setattr(Checkpoint, "on_epoch_end", after_checkpoint)
    return made


def test_what_was_killed_in_its_refit_ends_as_the_undisturbed_run(
    moments: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, and the run itself is not trained again."""
    words = [*WORDS, "refit=true", "callbacks.checkpoint.every_seconds=0"]
    train_in(tmp_path / "whole", *words)
    assert len(moments) == 2 + manifest_in(tmp_path / "whole")["best_epoch"] + 1
    for folder in list(moments):
        untouched = (folder / "manifest.json").read_bytes()
        assert find_state(folder) == "resumable"
        result = train_in(folder, f"resume={folder}")
        assert result.refit is not None
        for name in ("refit/config.yaml", "refit/metrics.json", "metrics.json"):
            assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
        refits = folder / "refit", tmp_path / "whole" / "refit"
        assert same(*[weights_of(each, "last.ckpt") for each in refits])
        assert history_in(refits[0]).equals(history_in(refits[1]))
        assert (folder / "manifest.json").read_bytes() == untouched
        assert find_state(folder) == "finished"


def interrupted(self: Diagnostics, record: Record) -> None:
    """Ends the second epoch of a refit."""
    if record.find(Checkpoint).folders[0].parent.name == "refit" and record.epoch[0] == 2:  # type: ignore[union-attr]
        raise KeyboardInterrupt


def test_an_interrupted_refit_names_the_command_that_goes_on(
    multilayer: Run, refitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the run's own folder: the first training is not repeated."""
    words = [*WORDS, "refit=true", "hydra.run.dir=run", "callbacks=[default,diagnostics]"]
    with monkeypatch.context() as patch:
        patch.setattr(Diagnostics, "on_epoch_end", interrupted)
        outcome = multilayer("train", *words)
    assert outcome.code == 130
    (line,) = [line for line in outcome.err.splitlines() if "for its refit:" in line]
    command = shlex.split(line.partition("for its refit: ")[2])
    assert command == ["multilayer", "train", "resume=run", "hydra.run.dir=run"]
    assert manifest_in(tmp_path / "run/refit")["status"] == "interrupted"
    outcome = multilayer(*command[1:], "trainer.max_epochs=20")
    assert outcome.code == 2
    assert "trainer.max_epochs=20: it was 12" in outcome.err
    outcome = multilayer("train", "resume=run")
    assert outcome.code == 2
    assert "refit=true: for the refit of that run alone, add hydra.run.dir=run" in outcome.err
    assert multilayer(*command[1:]).code == 0
    assert manifest_in(tmp_path / "run").get("attempts") is None
    assert manifest_in(tmp_path / "run/refit")["attempts"] == 2
    weights = [weights_of(each / "refit", "last.ckpt") for each in (tmp_path / "run", refitted)]
    assert same(*weights)
    outcome = multilayer(*command[1:])
    assert outcome.code == 2
    assert "holds a run that came to its end" in outcome.err
    outcome = multilayer("train", "resume=run")
    assert outcome.code == 2
    assert f"refit=true: {Path('run/refit')} is the refit of that run already" in outcome.err


def test_a_finished_run_can_be_given_a_refit(
    multilayer: Run, refitted: Path, tmp_path: Path
) -> None:
    """By its folder, without training it again."""
    assert multilayer("train", *WORDS, "hydra.run.dir=run").code == 0
    before = (tmp_path / "run/manifest.json").read_bytes()
    outcome = multilayer("train", "resume=run", "hydra.run.dir=run", "refit=true")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "run/manifest.json").read_bytes() == before
    assert outcome.out.splitlines()[-1].startswith("use it ")
    weights = [weights_of(each / "refit", "last.ckpt") for each in (tmp_path / "run", refitted)]
    assert same(*weights)


def test_a_run_that_diverged_has_none(multilayer: Run, tmp_path: Path) -> None:
    """Which is said; the run has come to its end."""
    words = ["data=iris", "optimizer=sgd", "optimizer.lr=1e25", "hydra.run.dir=run", "refit=true"]
    outcome = multilayer("train", *words)
    assert outcome.code == 1
    assert "refit       none, since the run diverged" in outcome.out
    assert not (tmp_path / "run/refit").exists()
    assert find_state(tmp_path / "run") == "finished"


def test_other_data_are_refused(iris_csv: Path, tmp_path: Path) -> None:
    """A refit that begins later would have other test rows."""
    words = ["data=table", f"data.path={iris_csv}", "data.target=species", "trainer.max_epochs=1"]
    folder = tmp_path / "run"
    train_in(folder, *words)
    pl.read_csv(iris_csv)[:-3].write_csv(iris_csv)
    with pytest.raises(UserError, match="the data have changed since"):
        train_in(folder, f"resume={folder}", "refit=true")
    assert not (folder / "refit").exists()


class Waits(EpochCallback):
    """Takes the validation's loss."""

    waits_for_validation = True

    def on_epoch_end(self, record: Record) -> None:
        assert record["validation/loss"] > 0


def test_callbacks_that_need_a_validation_are_left_out(tmp_path: Path) -> None:
    """Of ours and of the user's; the others act as in any run."""
    groups = "default,figures,learning_curves,diagnostics"
    own = f"++callbacks.own._target_={__name__}.Waits"
    words = ["data=iris", "trainer.max_epochs=2", f"callbacks=[{groups}]", own, "refit=true"]
    train_in(tmp_path / "run", *words)
    columns = history_in(tmp_path / "run/refit").columns
    assert [name for name in columns if name.startswith("weight_norm")]
    assert not (tmp_path / "run/refit/figures").exists()
    with pytest.raises(
        UserError, match=r"a refit has no validation rows, and .*EarlyStopping would"
    ):
        train_in(
            tmp_path / "more", f"resume={tmp_path / 'run/refit'}", "refit=9",
            "trainer.max_epochs=9", "callbacks=early_stopping",
        )  # fmt: skip


def test_it_takes_the_learning_rate_that_was_found(tmp_path: Path) -> None:
    """And searches none itself."""
    sweep = ["callbacks=[default,lr_sweep]", "callbacks.lr_sweep.n_rates=4"]
    sweep += ["callbacks.lr_sweep.n_seeds=1", "callbacks.lr_sweep.max_steps=5"]
    train_in(tmp_path / "run", "data=iris", "trainer.max_epochs=3", *sweep, "refit=true")
    configs = [RunFolder(tmp_path / each).read_config() for each in ("run", "run/refit")]
    assert configs[0]["optimizer"]["lr"] == configs[1]["optimizer"]["lr"] != 0.001
    assert "lr_sweep" not in configs[1]["callbacks"]


class Divides(BuiltinDataset):
    """Chooses the rows of each split itself."""

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        self.rows["validation"] = self.rows["train"][:9]


def test_data_that_keep_validation_rows_apart_are_refused(tmp_path: Path) -> None:
    """The refit would leave them out without a word; the run is whole."""
    own = f"data._target_={__name__}.Divides"
    with pytest.raises(UserError, match="Divides divides the rows itself"):
        train_in(tmp_path / "run", "data=iris", own, "trainer.max_epochs=1", "refit=true")
    assert manifest_in(tmp_path / "run")["status"] == "done"
    assert not (tmp_path / "run/refit").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["callbacks=none"], "refit=true: .*; add callbacks=checkpoint"),
        (["trainer.max_steps=30"], "refit=true: trainer.max_steps=30 .*; give trainer.max_epochs"),
        (["scheduler=plateau"], "refit=true: scheduler=plateau follows the validation"),
        (["trainer.devices=2"], "refit=true: .*; give trainer.devices=1"),
        (["data=table", "data.stream=true", "data.target=y", "data.path=x.parquet"],
         "refit=true: data.stream=true"),
        (["+callbacks.find._target_=pytorch_lightning.callbacks.LearningRateFinder"],
         "refit=true: .* LearningRateFinder"),
    ],
)  # fmt: skip
def test_what_cannot_have_one_is_refused_at_once(
    words: list[str], message: str, multilayer: Run, tmp_path: Path
) -> None:
    """Before anything is read or trained."""
    with pytest.raises(UserError, match=message):
        config_of("refit=true", *words)


@pytest.mark.parametrize("value", ["3", "yes_please", "null", "0"])
def test_on_the_command_line_it_is_true_or_false(value: str) -> None:
    """Its epochs are found."""
    with pytest.raises(UserError, match=rf"^refit={value}: must be"):
        config_of(f"refit={value}")


def test_time_bounds_the_run_alone(tmp_path: Path) -> None:
    """The refit has its epochs, however long they take."""
    train_in(tmp_path / "run", *WORDS, "trainer.max_time=00:01:00:00", "refit=true")
    assert manifest_in(tmp_path / "run/refit")["stop_reason"].startswith("reached refit=")
