"""`multilayer.load`: a trained run in Python predicts and is evaluated as the commands do it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import pytorch_lightning
import torch
from polars.testing import assert_frame_equal
from sklearn.datasets import load_iris
from torch.optim import SGD

import multilayer
from multilayer import Predictor
from multilayer.core.errors import UserError
from multilayer.data import BuiltinData
from multilayer.data.dataset import EVALUATION_BATCH_SIZE
from multilayer.training.evaluate import evaluate
from multilayer.training.predict import predict

from ..trained import train_in
from .test_module import quiet_trainer

GOLDEN = Path(__file__).parents[1] / "golden"
RUNS = {"finished": None, "table": GOLDEN / "flats.csv", "odd": GOLDEN / "odd.csv"}
COMMAND: dict[str, Any] = {"trusted_packages": [], "device": "cpu", "split": "test"}


@pytest.fixture(scope="module")
def iris(finished_run: Path) -> Predictor:
    """A run on iris."""
    return multilayer.load(finished_run, device="cpu")


def iris_frame() -> pl.DataFrame:
    """Its rows as they were trained on."""
    data = load_iris()
    names = [str(data.target_names[index]) for index in data.target]
    return pl.DataFrame(data.data, schema=list(data.feature_names)).with_columns(
        target=pl.Series(names)
    )


@pytest.mark.parametrize("name", ["table", "odd"])
def test_predictions_and_metrics_are_those_of_the_commands(tmp_path: Path, name: str) -> None:
    """Of a file and of the same rows in memory: a frame, a dict and an array of objects."""
    path, run = RUNS[name], GOLDEN / name
    words = COMMAND | {"run": str(run), "data": {"path": str(path)}}
    written = {"input": str(path), "output": str(tmp_path / "p.parquet")}
    expected = predict(words | written | {"keep_input_columns": False})
    metrics = evaluate(words).metrics
    predictor = multilayer.load(run, device="cpu")
    frame = pl.read_csv(path)
    kinds = {
        "file": path,
        "text": str(path),
        "frame": frame,
        "dict": frame.to_dict(as_series=False),
    }
    for rows in kinds.values():
        assert_frame_equal(predictor.predict_frame(rows), expected)
        assert predictor.predict(rows).tolist() == expected["prediction"].to_list()
        assert predictor.metrics(rows) == pytest.approx(metrics, rel=1e-6)
    names = predictor.columns.features
    objects = np.array(frame.rename(str.strip).select(map(str.strip, names)).rows(), object)
    assert_frame_equal(predictor.predict_frame(objects), expected)
    pandas = pytest.importorskip("pandas")
    lists = frame.to_dict(as_series=False)
    assert_frame_equal(predictor.predict_frame(pandas.DataFrame(lists)), expected)


def test_a_run_says_what_it_was_trained_on(iris: Predictor) -> None:
    """Its config, columns, classes, network, preprocessing."""
    names = ["setosa", "versicolor", "virginica"]
    assert (iris.task, iris.classes.tolist(), iris.columns.classes) == ("multiclass", names, names)
    assert iris.config["data"]["name"] == "iris"
    rows = torch.from_numpy(load_iris().data)
    with torch.no_grad():
        logits = iris.network(iris.preprocessing(rows))
    found = torch.from_numpy(iris.predict_proba(rows.numpy()))
    torch.testing.assert_close(found, logits.softmax(1))
    assert iris.predict(rows.numpy()).tolist() == [names[index] for index in logits.argmax(1)]
    assert "checkpoints/best.ckpt" in repr(iris)


def test_the_metrics_of_a_split_are_those_of_the_training(finished_run: Path) -> None:
    """The run's own data are read again."""
    expected = json.loads((finished_run / "metrics.json").read_text())
    predictor = multilayer.load(finished_run, device="cpu")
    assert predictor.metrics() == pytest.approx(expected["test"], rel=1e-6)
    for split in ("train", "validation"):
        found = predictor.metrics(split=split)  # type: ignore[arg-type]
        assert found == pytest.approx(expected[split], rel=1e-6)
    with pytest.raises(UserError, match="unknown split 'tests': did you mean test"):
        predictor.metrics(split="tests")  # type: ignore[arg-type]


def test_many_rows_are_predicted_in_batches(iris: Predictor) -> None:
    """Each as it is by itself."""
    seen: list[int] = []
    hook = iris.network.register_forward_hook(lambda _, rows, out: seen.append(len(rows[0])))
    rows = np.tile(load_iris().data, (EVALUATION_BATCH_SIZE // 150 + 2, 1))
    found = iris.predict_proba(rows)
    hook.remove()
    assert max(seen) <= EVALUATION_BATCH_SIZE < len(rows) == sum(seen)
    np.testing.assert_allclose(found[-150:], iris.predict_proba(rows[:150]), atol=1e-6)


@pytest.mark.parametrize(
    ("target", "kind"), [([1, 2], "i"), ([True, False], "b"), (["1", "2"], "U"), ([0.5, 1.5], "f")]
)
def test_classes_have_the_type_of_the_target(tmp_path: Path, target: list[Any], kind: str) -> None:
    """As scikit-learn's have; `predict_proba` has a column for each, also of two classes."""
    frame = pl.DataFrame({"x": [0.0, 1.0] * 30, "y": target * 30})
    frame.write_parquet(tmp_path / "t.parquet")
    words = ["data=table", f"data.path={tmp_path}/t.parquet", "data.target=y", "data.task=binary"]
    train_in(tmp_path / "run", *words, "trainer.max_epochs=30", "optimizer.lr=0.05")
    predictor = multilayer.load(tmp_path / "run")
    found = predictor.predict(frame)
    assert found.dtype.kind == kind
    assert found.tolist() == frame["y"].to_list()
    probabilities = predictor.predict_proba(frame)
    assert probabilities.shape == (60, 2)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-6)
    assert (predictor.classes[probabilities.argmax(1)] == found).all()


def test_a_number_has_no_probabilities() -> None:
    """It is predicted in its units."""
    flats = multilayer.load(GOLDEN / "table")
    with pytest.raises(UserError, match="'price' is a number: use predict"):
        flats.predict_proba(GOLDEN / "flats.csv")
    assert flats.classes.tolist() == []
    prices = pl.read_csv(GOLDEN / "flats.csv")["price"].to_numpy()
    assert np.corrcoef(flats.predict(GOLDEN / "flats.csv"), prices)[0, 1] > 0.8


def test_the_module_tests_predicts_and_learns_on(tmp_path: Path, finished_run: Path) -> None:
    """With Lightning's trainer; its network is the predictor's own."""
    predictor = multilayer.load(finished_run, device="cpu")
    module = predictor.module
    assert predictor.module is module
    assert module.network is predictor.network
    assert not module.training
    data = BuiltinData(name="iris", preprocessing=predictor.preprocessing)
    trainer = quiet_trainer(tmp_path, n_epochs=1)
    (found,) = trainer.test(module, data, verbose=False)
    before = predictor.metrics()
    assert {name.removeprefix("test/"): found[name] for name in found} == pytest.approx(
        before, rel=1e-5
    )
    predictions: Any = trainer.predict(module, data)
    table, rows = data.load(), data.rows["test"]
    np.testing.assert_allclose(
        torch.cat(predictions), predictor.predict_proba(table.features[rows].numpy()), atol=1e-6
    )
    module.make_optimizer = lambda parameters: SGD(parameters, lr=0.1)
    trainer.fit(module.train(), data)
    assert predictor.metrics()["loss"] != before["loss"]


def test_predictions_have_no_dropout_while_the_module_trains(tmp_path: Path) -> None:
    """Whose network is the predictor's own; it is left as it was, layer by layer."""
    train_in(tmp_path, "data=iris", "trainer.max_epochs=1", "model.dropout=0.5")
    predictor = multilayer.load(tmp_path, device="cpu")
    rows = load_iris().data
    probabilities, metrics = predictor.predict_proba(rows), predictor.metrics()
    predictor.module.train()
    predictor.network[1].eval()  # type: ignore[index]
    before = [each.training for each in predictor.network.modules()]
    assert set(before) == {True, False}
    np.testing.assert_array_equal(predictor.predict_proba(rows), probabilities)
    assert predictor.metrics() == metrics
    assert [each.training for each in predictor.network.modules()] == before


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_the_module_has_the_precision_of_the_run(tmp_path: Path, precision: str) -> None:
    """Its predictions are those of the predictor, in float32 or wider."""
    train_in(tmp_path, "data=iris", "trainer.max_epochs=1", f"trainer.precision={precision}")
    predictor = multilayer.load(tmp_path, device="cpu")
    rows = load_iris().data
    with torch.no_grad():
        found = predictor.module(torch.from_numpy(rows))
    rtol = 1e-12 if precision == "64-true" else 1e-6
    np.testing.assert_allclose(found, predictor.predict_proba(rows), rtol=rtol)
    assert found.dtype == (torch.float64 if precision == "64-true" else torch.float32)


def test_the_history_is_a_frame(finished_run: Path, tmp_path: Path) -> None:
    """Of the run folder that the checkpoint is in; a row that is just being written is left out."""
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    for named in (run, run / "checkpoints" / "last.ckpt"):
        history = multilayer.load(named).history
        assert history["epoch"].to_list() == list(range(1, history.height + 1))
        assert history["epoch"].dtype == history["step"].dtype == pl.Int64
        assert {history[name].dtype for name in history.columns[2:]} == {pl.Float64}
    file = run / "history.csv"
    file.write_text(file.read_text() + "21,2")
    assert_frame_equal(multilayer.load(run).history, history)
    file.write_text("epoch,step,lr\n1,x,0.1\n")
    with pytest.raises(UserError, match=r"history\.csv is damaged"):
        _ = multilayer.load(run).history
    file.unlink()
    with pytest.raises(UserError, match=r"history\.csv is missing"):
        _ = multilayer.load(run).history
    shutil.copy(run / "checkpoints" / "best.ckpt", tmp_path / "bare.ckpt")
    bare = multilayer.load(tmp_path / "bare.ckpt")
    with pytest.raises(UserError, match=r"bare\.ckpt is in no run folder.*load the folder"):
        _ = bare.history
    assert bare.predict(load_iris().data[:1]).tolist() == ["setosa"]


BAD: dict[str, tuple[Any, str]] = {
    "missing": (iris_frame().drop("sepal length (cm)"), "the frame lacks 'sepal length"),
    "misnamed": ({"sepal length": [1.0]}, "the dict lacks 'sepal length .*it has 'sepal length'"),
    "words": (
        iris_frame().with_columns(pl.Series("petal width (cm)", ["0.1"] * 149 + ["wide"])),
        "the frame: column 'petal width .* must hold numbers, found 'wide' in row 150",
    ),
    "times": (
        iris_frame().with_columns(pl.lit("2026-01-01").str.to_date().alias("petal width (cm)")),
        "must hold numbers, as in training, found dates",
    ),
    "lists": (
        iris_frame().with_columns(pl.lit([1, 2]).alias("petal width (cm)")),
        r"must hold numbers, as in training, found List",
    ),
    "infinite": (np.full((2, 4), np.inf), "the array: column 'sepal length .* infinite in row 1"),
    "no rows": (np.empty((0, 4)), "the array has no rows"),
    "empty frame": (iris_frame().head(0), "the frame has no rows"),
    "narrow": (np.zeros((2, 3)), "the array has 3 columns, expected 4"),
    "three axes": (np.zeros((2, 4, 1)), r"must be \(N, 4\), got the shape \(2, 4, 1\)"),
    "objects": (np.array([[object()] * 4]), "holds a value of the type object in row 1"),
    "no file": ("no/such.csv", "no/such.csv: no such file"),
    "a folder": (GOLDEN, "not a file"),
    "a list": ([[1.0, 2, 3, 4]], "rows must be a polars or pandas frame.* got list"),
}


@pytest.mark.parametrize("case", BAD)
def test_rows_that_do_not_fit_are_one_error(iris: Predictor, case: str) -> None:
    """Of every method; it says what was expected and what came."""
    rows, message = BAD[case]
    for use in (iris.predict, iris.predict_proba, iris.predict_frame):
        with pytest.raises(UserError, match=message):
            use(rows)
    with pytest.raises(UserError):
        iris.metrics(rows)


def test_a_table_to_evaluate_on_has_the_target(iris: Predictor) -> None:
    """With classes that the training knew."""
    frame = iris_frame()
    assert iris.metrics(frame)["accuracy"] > 0.9
    with pytest.raises(UserError, match="the array has no column 'target', the target"):
        iris.metrics(load_iris().data)
    with pytest.raises(UserError, match="the target 'target' is 'rose' in row 1, none of the"):
        iris.metrics(frame.with_columns(target=pl.lit("rose")))
    with pytest.raises(UserError, match="the target 'target' is missing in row 1"):
        iris.metrics(frame.with_columns(target=pl.lit(None, pl.String)))


def test_missing_values_are_filled_in(iris: Predictor) -> None:
    """NaN in an array, null in a frame: both as the training's median."""
    array = load_iris().data[:5].copy()
    array[:, 1] = np.nan
    frame = iris_frame().head(5).with_columns(pl.lit(None).alias("sepal width (cm)"))
    found = iris.predict_proba(array)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(iris.predict_proba(frame), found)


@pytest.mark.parametrize(
    ("run", "options", "message"),
    [
        ("no/such/run", {}, "run=no/such/run: no such folder or file"),
        (str(GOLDEN), {}, "is not a run folder: .* did you mean"),
        (str(GOLDEN / "flats.csv"), {}, "flats.csv is damaged, or not a checkpoint"),
        (str(GOLDEN / "finished"), {"device": "tpu"}, "unknown device 'tpu': did you mean gpu"),
        (str(GOLDEN / "finished"), {"trusted_packages": "mine"}, "must be a list of names"),
    ],
)
def test_what_cannot_be_loaded_is_one_error(
    run: str, options: dict[str, Any], message: str
) -> None:
    """As in the commands; crafted checkpoints are in tests/runs."""
    with pytest.raises(UserError, match=message):
        multilayer.load(run, **options)


def test_loading_and_predicting_import_neither_lightning_nor_hydra() -> None:
    """Nor matplotlib, scikit-learn or pandas; `module` imports Lightning when it is asked for."""
    program = f"""
import sys, multilayer
assert "torch" not in sys.modules and "polars" not in sys.modules
predictor = multilayer.load({str(GOLDEN / "table")!r})
predictor.predict({str(GOLDEN / "flats.csv")!r})
predictor.metrics({str(GOLDEN / "flats.csv")!r})
heavy = "pytorch_lightning lightning_fabric torchmetrics hydra matplotlib sklearn pandas".split()
print([name for name in heavy if name in sys.modules])
predictor.module
print("pytorch_lightning" in sys.modules)
"""
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert found.stdout == "[]\nTrue\n", found.stderr


def test_the_module_is_lightnings(iris: Predictor) -> None:
    """Of the class for the task, for a type checker too."""
    assert isinstance(iris.module, multilayer.MulticlassModule)
    assert isinstance(iris.module, pytorch_lightning.LightningModule)
