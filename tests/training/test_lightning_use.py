"""The modules with Lightning's own entry points: raw rows, plain loaders, tests, predictions."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.tuner.tuning import Tuner
from pytorch_lightning.utilities.combined_loader import CombinedLoader
from torch import Tensor
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader, TensorDataset

from multilayer import (
    MLP,
    BinaryModule,
    BuiltinData,
    MulticlassModule,
    RegressionModule,
    SupervisedModule,
    TableData,
)
from multilayer.callbacks import Checkpoint
from multilayer.cli.tasks import train
from multilayer.core.errors import UserError
from multilayer.nn.metrics import metrics_of
from multilayer.training.components import make_data
from multilayer.training.lightning_adapter import lightning_callbacks
from multilayer.training.loading import load

from ..trained import config_of
from .test_module import adam, quiet_trainer

FLATS = Path(__file__).parents[1] / "golden" / "flats.csv"
Loader = DataLoader[tuple[Tensor, ...]]


def data_of(task: str) -> Any:
    """Data whose features and target do not come ready: categories, gaps, large prices."""
    if task == "regression":
        return TableData(path=FLATS, target="price", batch_size=16)
    if task == "binary":
        return BuiltinData(name="breast_cancer")
    return BuiltinData(name="wine")


def module_for(data: Any, **arguments: Any) -> SupervisedModule:
    """A module without a preprocessing, with the network that the data needs."""
    data.setup()
    kinds = {"regression": RegressionModule, "binary": BinaryModule, "multiclass": MulticlassModule}
    torch.manual_seed(0)
    network = MLP(data.preprocessing.n_features, data.columns.n_outputs, dropout=0.2)
    return kinds[data.columns.task](network, **{"optimizer": adam} | arguments)


def raw_rows(data: Any, split: str) -> tuple[Tensor, Tensor]:
    """The rows of a split as they were read."""
    table = data.load()
    return table.features[data.rows[split]], table.target[data.rows[split]]


def plain_loader(*tensors: Tensor) -> Loader:
    return DataLoader(TensorDataset(*tensors), batch_size=16)


def expected_metrics(module: SupervisedModule, rows: tuple[Tensor, Tensor]) -> dict[str, float]:
    """The metrics of the predictions for raw rows, in the units of the target."""
    with torch.no_grad():
        predictions, target = module.eval()(rows[0]), rows[1]
        found = metrics_of(module.task, predictions, target)
    if module.task != "regression":
        both = (
            predictions if predictions.ndim == 2 else torch.stack([1 - predictions, predictions], 1)
        )
        found["cross_entropy"] = -both[range(len(target)), target.long()].log().mean()
    return {name: float(value) for name, value in found.items()}


def of_split(metrics: Any, split: str) -> dict[str, float]:
    """What Lightning gives, without the split before each name and the loss."""
    names = {name: float(value) for name, value in dict(metrics).items() if "/loss" not in name}
    return {name.removeprefix(f"{split}/"): names[name] for name in names if split in name}


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_fit_takes_over_the_preprocessing_of_the_data(tmp_path: Path, task: str) -> None:
    """Called on raw rows, the module is as good as the fit said, in the units of the target."""
    data = data_of(task)
    module = module_for(data)
    trainer = quiet_trainer(tmp_path)
    (before,) = trainer.validate(module, data, verbose=False)
    rows = raw_rows(data, "validation")
    assert of_split(before, "validation") == pytest.approx(expected_metrics(module, rows), rel=1e-4)
    trainer.fit(module.train(), data)
    expected = pytest.approx(expected_metrics(module, rows), rel=1e-4)
    assert of_split(trainer.callback_metrics, "validation") == expected
    (after,) = trainer.validate(module, data, verbose=False)
    assert of_split(after, "validation") == expected


@pytest.mark.parametrize(
    ("task", "wrap"),
    [
        ("binary", list),
        ("multiclass", partial(CombinedLoader, mode="sequential")),
        ("regression", itemgetter(0)),
    ],
)
def test_a_fit_takes_over_the_preprocessing_of_loaders(
    tmp_path: Path, task: str, wrap: Callable[[Any], Any]
) -> None:
    """The data's own ones, passed one by one; a callback that copies the module has it too."""
    data = data_of(task)
    module = module_for(data)
    averaging = pl.callbacks.EMAWeightAveraging(decay=0.5)
    trainer = quiet_trainer(tmp_path, n_epochs=2, callbacks=[averaging])
    trainer.fit(module, data.train_dataloader(), wrap([data.val_dataloader()]))
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    rows = raw_rows(data, "test")
    expected = pytest.approx(expected_metrics(module, rows), rel=1e-4)
    for loader in (wrap([data.test_dataloader()]), plain_loader(*rows)):
        (found,) = trainer.test(module, loader, verbose=False)
        assert of_split(found, "test") == expected
    fresh = module_for(data)
    (found,) = trainer.test(
        fresh, plain_loader(*rows), verbose=False, ckpt_path=tmp_path / "own.ckpt"
    )
    assert of_split(found, "test") == expected
    others = BuiltinData(name="diabetes")
    others.setup()
    with pytest.raises(UserError, match=r"preprocessing=module\.preprocessing"):
        trainer.test(module, [data.test_dataloader(), others.test_dataloader()])
    with pytest.raises(UserError, match=r"preprocessing=module\.preprocessing"):
        module.evaluate(others.minibatches("test"))


def test_weights_of_raw_columns_refuse_preprocessed_rows(tmp_path: Path) -> None:
    """However they come, trained or loaded; on raw columns they stay as good as they were."""
    data = BuiltinData(name="diabetes", batch_size=16)
    module = module_for(data)
    trainer = quiet_trainer(tmp_path)
    max_train_rows, rows = raw_rows(data, "train"), raw_rows(data, "test")
    trainer.fit(module, plain_loader(*max_train_rows), plain_loader(*rows))
    trainer.save_checkpoint(tmp_path / "raw.ckpt")
    loaded = module_for(data)
    loaded.load_state_dict(module.state_dict())
    before = expected_metrics(module, rows)
    for each in (module, loaded):
        for use in (trainer.test, trainer.validate, trainer.predict):
            for given in (data, data.test_dataloader()):
                with pytest.raises(UserError, match=r"learnt from raw columns.*DataLoader"):
                    use(each, given)
    with pytest.raises(UserError, match="learnt from raw columns"):
        trainer.fit(module, data)
    with pytest.raises(UserError, match="learnt from raw columns"):
        trainer.test(module_for(data), data, ckpt_path=tmp_path / "raw.ckpt")
    (found,) = trainer.test(module, plain_loader(*rows), verbose=False)
    assert of_split(found, "test") == pytest.approx(before, rel=1e-5)
    trainer = quiet_trainer(tmp_path)
    trainer.fit(loaded.train(), data)
    (found,) = trainer.test(loaded, data, verbose=False)
    assert of_split(found, "test") == pytest.approx(expected_metrics(loaded, rows), rel=1e-4)


@pytest.mark.parametrize("numbers", ["standard", "quantile"])
def test_weights_are_loaded_as_torch_saves_them(tmp_path: Path, numbers: Any) -> None:
    """A `state_dict` brings its preprocessing; of categories it does not say which they are."""
    data = BuiltinData(name="diabetes", numeric_scaling=numbers)
    module = module_for(data)
    quiet_trainer(tmp_path, n_epochs=1).fit(module, data)
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    fresh = module_for(data)
    fresh.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    columns, _ = raw_rows(data, "test")
    assert torch.equal(fresh.eval()(columns), module.eval()(columns))
    quiet_trainer(tmp_path).test(fresh, data, verbose=False)
    flats = data_of("regression")
    fitted = module_for(flats)
    fitted.take_preprocessing(flats.preprocessing)
    with pytest.raises(UserError, match=r"categories.*preprocessing=data\.preprocessing"):
        module_for(flats).load_state_dict(fitted.state_dict())
    fresh = module_for(flats, preprocessing=flats.preprocessing)
    fresh.load_state_dict(fitted.state_dict())


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_module_is_loaded_with_ones_own_network(tmp_path: Path, task: str) -> None:
    """`load_from_checkpoint` brings the preprocessing; the predictions are the same to the bit."""
    data = data_of(task)
    module = module_for(data)
    trainer = quiet_trainer(tmp_path, n_epochs=1)
    trainer.fit(module, data)
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    network = MLP(data.preprocessing.n_features, data.columns.n_outputs, dropout=0.2)
    loaded = type(module).load_from_checkpoint(tmp_path / "own.ckpt", network=network)
    columns, _ = raw_rows(data, "test")
    assert torch.equal(loaded.eval()(columns), module.eval()(columns))
    loaded.make_optimizer = adam
    trainer = quiet_trainer(tmp_path, n_epochs=2)
    trainer.fit(loaded.train(), data, ckpt_path=tmp_path / "own.ckpt")
    assert trainer.current_epoch == 2


@pytest.mark.parametrize("source", ["fit", "run"])
def test_a_checkpoint_of_another_module_is_told(tmp_path: Path, source: str) -> None:
    """One that needs a network, and one of another task; a run's says so by its columns."""
    path = FLATS.parent / "finished" / "checkpoints" / "best.ckpt"  # of three classes
    if source == "fit":
        path, data = tmp_path / "own.ckpt", BuiltinData(name="iris")
        trainer = quiet_trainer(tmp_path, n_epochs=1)
        trainer.fit(module_for(data), data)
        trainer.save_checkpoint(path)
    with pytest.raises(UserError, match=r"load_from_checkpoint\(path, network="):
        MulticlassModule.load_from_checkpoint(path)
    with pytest.raises(UserError, match="of the task multiclass: load it with MulticlassModule"):
        RegressionModule.load_from_checkpoint(path, network=MLP(4, 3))


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_trainer_tests_and_predicts(tmp_path: Path, task: str) -> None:
    """The test rows of the data, and rows of a plain loader, which are raw."""
    data = data_of(task)
    module = module_for(data)
    trainer = quiet_trainer(tmp_path, n_epochs=1)
    trainer.fit(module, data)
    rows = raw_rows(data, "test")
    expected = expected_metrics(module, rows)
    for source in ({"datamodule": data}, {"dataloaders": plain_loader(*rows)}):
        (found,) = trainer.test(module, verbose=False, **source)
        assert of_split(found, "test") == pytest.approx(expected, rel=1e-4)
        ours = module.evaluate(data.minibatches("test"))
        assert found["test/loss"] == pytest.approx(ours["loss"], rel=1e-5)
    with torch.no_grad():
        expected_predictions = module.eval()(rows[0])
    loaders: list[Any] = [plain_loader(*rows), plain_loader(rows[0]), DataLoader(rows[0], 7)]  # type: ignore[arg-type]
    for loader in ({"datamodule": data}, *({"dataloaders": each} for each in loaders)):
        predictions: Any = trainer.predict(module, **loader)
        torch.testing.assert_close(torch.cat(predictions), expected_predictions)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int32])
def test_features_of_a_plain_loader_stay_as_they_are(tmp_path: Path, dtype: torch.dtype) -> None:
    """Without a preprocessing; numbers as numpy gives them are no error of torch's."""
    generator = torch.Generator().manual_seed(0)
    columns = torch.randn(64, 3, generator=generator, dtype=torch.float64)
    target = (10 * columns.sum(dim=1)).round()
    loader = plain_loader(columns, target.to(dtype))
    module = RegressionModule(MLP(3, 1), optimizer=adam)
    trainer = quiet_trainer(tmp_path, n_epochs=3)
    trainer.fit(module, loader, loader)
    with torch.no_grad():
        error = module.eval().network(columns.float())[:, 0] - target
    (found,) = trainer.test(module, loader, verbose=False)
    assert found["test/rmse"] == pytest.approx(float(error.square().mean().sqrt()), rel=1e-5)
    assert found["test/loss"] == pytest.approx(found["test/rmse"] ** 2, rel=1e-5)


def test_data_of_another_preprocessing_are_refused(tmp_path: Path) -> None:
    """Whether they come to a fit, a test or with a checkpoint; the module's own is taken."""
    data = BuiltinData(name="iris")
    module = module_for(data)
    trainer = quiet_trainer(tmp_path, n_epochs=1)
    trainer.fit(module, data)
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    others = BuiltinData(name="iris", split_seed=1)
    for use in (trainer.fit, trainer.test, trainer.predict, trainer.validate):
        with pytest.raises(UserError, match=r"preprocessing=module\.preprocessing"):
            use(module, datamodule=others)
    fresh = module_for(others)
    with pytest.raises(UserError, match=r"preprocessing=module\.preprocessing"):
        quiet_trainer(tmp_path).fit(fresh, others, ckpt_path=tmp_path / "own.ckpt")
    trainer.test(module, BuiltinData(name="iris", split_seed=1, preprocessing=module.preprocessing))  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:.*no `val_dataloader`")
@pytest.mark.parametrize("source", ["data", "loader"])
def test_lightnings_finder_sets_the_rate(tmp_path: Path, source: str) -> None:
    """`Tuner.lr_find` leaves its rate in `lr`, and the next fit takes it and all its steps."""
    data = BuiltinData(name="wine", batch_size=16)
    module = module_for(data, optimizer=Adam)
    rows: Any = {"datamodule": data}
    if source == "loader":
        rows = {"train_dataloaders": plain_loader(*raw_rows(data, "train"))}
    trainer = quiet_trainer(tmp_path, n_epochs=4)
    finder = Tuner(trainer).lr_find(module, num_training=25, **rows)
    assert finder is not None
    assert module.lr == finder.suggestion() is not None
    trainer.fit(module, **rows)
    assert trainer.optimizers[0].param_groups[0]["lr"] == module.lr
    assert trainer.global_step == 4 * 8  # of 125 rows, 8 minibatches an epoch


class Rates(pl.Callback):
    """Notes the metric of each validation, and the rate after so many of them."""

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor
        self.seen: list[float] = []
        self.rates: dict[int, float] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self.seen.append(float(trainer.callback_metrics[self.monitor]))

    def on_train_batch_start(self, trainer: pl.Trainer, *arguments: Any) -> None:
        self.rates[len(self.seen)] = trainer.optimizers[0].param_groups[0]["lr"]


@pytest.mark.parametrize("monitor", ["validation/loss", "validation/accuracy", "train/loss"])
@pytest.mark.parametrize(
    "trainer",
    [
        {},
        {"check_val_every_n_epoch": 2},
        {"val_check_interval": 0.5},
        {"val_check_interval": 3, "check_val_every_n_epoch": None},
        {"max_steps": 41},
        {"num_sanity_val_steps": 2},
    ],
    ids=str,
)
def test_plateau_moves_at_validations(
    tmp_path: Path, monitor: str, trainer: dict[str, Any]
) -> None:
    """After each one, by the metric that is monitored, as torch's own does on the same values."""
    mode = "max" if monitor.endswith("accuracy") else "min"
    plateau = partial(ReduceLROnPlateau, mode=mode, patience=0, factor=0.5, threshold=0.2)
    data = BuiltinData(name="wine", batch_size=32)
    module = module_for(data, optimizer=adam, scheduler=plateau, monitor=monitor)
    rates = Rates(monitor)
    settings = {"num_sanity_val_steps": 0} | trainer
    quiet_trainer(tmp_path, n_epochs=12, callbacks=[rates], **settings).fit(module, data)
    oracle = SGD([torch.zeros(1, requires_grad=True)], lr=1e-2)
    expected = [1e-2]
    schedule = plateau(oracle)
    for value in rates.seen:
        schedule.step(value)
        expected.append(oracle.param_groups[0]["lr"])
    assert len(rates.seen) > 3
    assert len({*expected}) > 2
    assert rates.rates == {n: pytest.approx(expected[n]) for n in rates.rates}


@pytest.mark.filterwarnings("ignore:.*no `val_dataloader`")
def test_a_schedule_by_a_metric_that_is_not_there_is_told(tmp_path: Path) -> None:
    """Where nothing is validated; by the training loss it moves each epoch."""
    data = BuiltinData(name="wine")
    plateau = partial(ReduceLROnPlateau, patience=0, threshold=1e3, threshold_mode="abs")
    module = module_for(data, scheduler=plateau)
    loader = plain_loader(*raw_rows(data, "train"))
    with pytest.raises(UserError, match=r"no metric 'validation/loss'.*train/loss"):
        quiet_trainer(tmp_path).fit(module, loader)
    module = module_for(data, scheduler=plateau, monitor="train/loss")
    trainer = quiet_trainer(tmp_path)
    trainer.fit(module, loader)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-4)  # of 1e-2, twice


def test_a_resumed_run_goes_on_with_its_schedule(tmp_path: Path) -> None:
    """Though it follows a metric: the rates, and so the weights, are those of the whole run."""
    data = BuiltinData(name="wine", batch_size=32)
    plateau = partial(
        ReduceLROnPlateau, patience=0, factor=0.5, threshold=1e3, threshold_mode="abs"
    )

    def fit(n_epochs: int, folder: str, ckpt_path: Path | None = None) -> SupervisedModule:
        module = module_for(data, scheduler=plateau)
        trainer = quiet_trainer(tmp_path, n_epochs)
        trainer.callbacks.extend(lightning_callbacks(Checkpoint(folder=tmp_path / folder)))  # type: ignore[attr-defined]
        trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=True)
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        assert rate == pytest.approx(1e-2 * 0.5 ** (n_epochs - 1))
        return module

    fit(3, "half")
    resumed = fit(5, "resumed", tmp_path / "half" / "last.ckpt").state_dict()
    for name, value in fit(5, "whole").state_dict().items():
        assert torch.equal(resumed[name], value)


def test_dropout_is_left_out_of_the_predictions_of_a_run(tmp_path: Path) -> None:
    """What `predict` loads evaluates: the same each time, and as good as the run has said."""
    config = config_of("data=wine", "model.dropout=0.5", "trainer.max_epochs=3")
    result = train(config, tmp_path, quiet=True)
    trained = load(tmp_path / "checkpoints" / "best.ckpt")
    data = make_data(config)
    data.setup()
    columns, target = raw_rows(data, "test")
    rows = columns.numpy()
    predictions = torch.from_numpy(trained.predict_proba(rows))
    assert np.array_equal(trained.predict_proba(rows), predictions)
    found = metrics_of("multiclass", predictions, target)
    assert result.metrics["test"]["auroc"] == pytest.approx(float(found["auroc"]), rel=1e-5)
    own = MLP(13, 3, d_hidden=config["model"]["d_hidden"], dropout=0.5)
    path = tmp_path / "checkpoints" / "best.ckpt"
    loaded = MulticlassModule.load_from_checkpoint(path, network=own).eval()
    torch.testing.assert_close(loaded(columns), predictions)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_each_of_several_loaders_has_its_own_metrics(tmp_path: Path, task: str) -> None:
    """Named as Lightning names them, in a fit, a validation and a test."""
    data = data_of(task)
    module = module_for(data)
    parts = [raw_rows(data, "validation"), raw_rows(data, "test")]
    loaders = [plain_loader(*rows) for rows in parts]
    trainer = quiet_trainer(tmp_path, n_epochs=2)
    module.take_preprocessing(data.preprocessing)
    trainer.fit(module, plain_loader(*raw_rows(data, "train")), loaders)
    found: dict[str, list[Any]] = {"validation": [dict(trainer.callback_metrics)]}
    assert "train/loss" in trainer.callback_metrics
    for split, run in (("test", trainer.test), ("validation", trainer.validate)):
        results: Any = run(module, loaders, verbose=False)
        found[split] = [*found.get(split, []), *results]
    for split, results in found.items():
        for result in results:
            for index, rows in enumerate(parts):
                ending = f"/dataloader_idx_{index}"
                named = {
                    name.removesuffix(ending): value
                    for name, value in result.items()
                    if name.startswith(split) and name.endswith(ending)
                }
                loss = float(named[f"{split}/loss"])
                assert loss == pytest.approx(module.evaluate(plain_loader(*rows))["loss"], rel=1e-5)
                expected = pytest.approx(expected_metrics(module, rows), rel=1e-4)
                assert of_split(named, split) == expected


def test_a_metric_that_one_of_several_loaders_lacks_is_not_logged(tmp_path: Path) -> None:
    """One has rows of one class: it has no AUROC, and the other has."""
    data = BuiltinData(name="breast_cancer")
    module = module_for(data)
    module.take_preprocessing(data.preprocessing)
    columns, target = raw_rows(data, "validation")
    loaders = [
        plain_loader(columns, target),
        plain_loader(columns[target == 1], target[target == 1]),
    ]
    trainer = quiet_trainer(tmp_path, n_epochs=1)
    logger = CSVLogger(tmp_path, name="", version="")
    trainer.loggers = [logger]
    trainer.fit(module, loaders[0], loaders)
    header = (tmp_path / "metrics.csv").read_text().partition("\n")[0]
    assert "validation/auroc/dataloader_idx_0" in header
    assert "validation/auroc/dataloader_idx_1" not in header
    assert "validation/accuracy/dataloader_idx_1" in header


@pytest.mark.filterwarnings("ignore:.*no `val_dataloader`")
@pytest.mark.parametrize("n", [2, 5])
def test_features_of_another_width_are_one_message(tmp_path: Path, n: int) -> None:
    """With both widths, in a call, a fit and a prediction, with a preprocessing or without."""
    loader = plain_loader(torch.randn(20, n), torch.zeros(20).long())
    alone = MulticlassModule(MLP(4, 3), optimizer=adam)
    fitted = module_for(BuiltinData(name="iris"))
    quiet_trainer(tmp_path, n_epochs=1).fit(fitted, BuiltinData(name="iris"))
    for module in (alone, fitted):
        for use in (quiet_trainer(tmp_path).fit, quiet_trainer(tmp_path).predict):
            with pytest.raises(UserError, match=rf"shape \(16, {n}\).*takes \(B, 4\)"):
                use(module, loader)
        with pytest.raises(UserError, match=rf"shape \(1, {n}\).*takes \(B, 4\)"):
            module(torch.zeros(1, n))
    with pytest.raises(UserError, match=r"must be \(B, n_features\), got \(4,\)"):
        alone(torch.zeros(4))


def test_a_column_for_several_is_not_repeated() -> None:
    """torch would stretch it over all that the preprocessing knows."""
    data = BuiltinData(name="iris")
    data.setup()
    with pytest.raises(UserError, match=r"shape \(3, 1\).*takes \(B, 4\)"):
        data.preprocessing(torch.zeros(3, 1))


def test_an_error_of_the_networks_own_stays_one(tmp_path: Path) -> None:
    """Features of the right shape bring no message about their shape."""

    class Broken(MLP):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) @ torch.zeros(7, 7)

    with pytest.raises(RuntimeError, match="cannot be multiplied") as caught:
        MulticlassModule(Broken(4, 3))(torch.zeros(2, 4))
    assert not isinstance(caught.value, UserError)
    assert caught.value.__cause__ is None


@pytest.mark.filterwarnings("ignore:.*no `val_dataloader`")
def test_a_last_minibatch_of_one_row_is_told_to_batch_normalization(tmp_path: Path) -> None:
    """With what to do; without such a layer it is trained on."""
    loader = plain_loader(torch.randn(17, 4), torch.arange(17) % 3)
    module = MulticlassModule(MLP(4, 3, normalization="batch"), optimizer=adam)
    with pytest.raises(UserError, match=r"one row.*drop_last=True"):
        quiet_trainer(tmp_path).fit(module, loader)
    trainer = quiet_trainer(tmp_path, n_epochs=1)
    trainer.fit(MulticlassModule(MLP(4, 3), optimizer=adam), loader)
    assert trainer.global_step == 2


@pytest.mark.filterwarnings("ignore:.*no `val_dataloader`")
def test_minibatches_of_another_kind_are_told(tmp_path: Path) -> None:
    """Dicts, for one, whose keys nobody has named."""
    rows = [{"x": torch.zeros(4), "y": torch.tensor(0)}] * 4
    loader: Any = DataLoader(rows, batch_size=2)  # type: ignore[arg-type]
    module = MulticlassModule(MLP(4, 3), optimizer=adam)
    trainer = quiet_trainer(tmp_path)
    for use in (trainer.fit, trainer.validate, trainer.test, trainer.predict):
        with pytest.raises(UserError, match=r"a minibatch must be .* got dict"):
            use(module, loader)


@pytest.mark.parametrize("interval", [1.0, 0.5, 2])
def test_training_metrics_are_of_the_whole_epoch(tmp_path: Path, interval: float) -> None:
    """However often it is validated in the midst, and though an error ended the fit before."""
    torch.manual_seed(0)
    rows = torch.randn(65, 4), torch.arange(65) % 3  # the last minibatch has one row
    module = MulticlassModule(MLP(4, 3), optimizer=partial(SGD, lr=0.0))
    expected = {f"train/{name}": n for name, n in module.evaluate([rows]).items()}

    class Stop(pl.Callback):
        def on_train_batch_end(self, *arguments: Any) -> None:
            raise KeyError("in the first minibatch")

    for callbacks in ([Stop()], []):
        trainer = quiet_trainer(
            tmp_path,
            n_epochs=1,
            callbacks=callbacks,
            val_check_interval=interval,
            num_sanity_val_steps=0,
        )
        with suppress(KeyError):
            trainer.fit(module, plain_loader(*rows), plain_loader(*rows))
    found = {name: float(trainer.callback_metrics[name]) for name in expected}
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_a_compiled_module_trains_as_the_module_itself(tmp_path: Path) -> None:
    """`torch.compile` of the whole of it, with minibatches of different sizes."""
    rows = torch.randn(65, 4, generator=torch.Generator().manual_seed(0)), torch.arange(65) % 3
    found = []
    for change in (lambda it: it, partial(torch.compile, backend="eager")):
        torch.manual_seed(0)
        module: Any = change(MulticlassModule(MLP(4, 3), optimizer=adam))
        trainer = quiet_trainer(tmp_path, n_epochs=2)
        trainer.fit(module, plain_loader(*rows), plain_loader(*rows))
        found.append({name: float(value) for name, value in trainer.callback_metrics.items()})
    assert found[0] == pytest.approx(found[1], rel=1e-6)
