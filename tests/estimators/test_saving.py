"""Files of estimators: what is saved is what is read, and nothing else is."""

from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import torch
from sklearn.datasets import load_diabetes, load_iris
from sklearn.preprocessing import scale

from multilayer import MultilayerClassifier, MultilayerRegressor

pytestmark = pytest.mark.filterwarnings("ignore:the training has not converged")

X, Y = scale(load_iris().data), load_iris().target
CLASSES = {
    "int": Y,
    "two": Y == 1,
    "words": load_iris().target_names[Y],
    "objects": load_iris().target_names[Y].astype(object),
    "labels": np.eye(3, dtype=int)[Y],
}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A small fitted classifier."""
    MultilayerClassifier((3,), max_iter=2, random_state=0).fit(X, Y).save(tmp_path / "model.pt")
    return tmp_path / "model.pt"


@pytest.mark.parametrize("y", CLASSES.values(), ids=CLASSES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_classifier_is_read_as_it_was_saved(tmp_path: Path, y: Any, dtype: Any) -> None:
    """With its classes; it predicts, and trains on, to the last bit."""
    model = MultilayerClassifier(
        (5, 4), normalization="batch", dropout=[0.1, 0.2], max_iter=3, random_state=0
    )
    model.fit(X.astype(dtype), y).save(tmp_path / "model.pt")
    found = MultilayerClassifier.load(tmp_path / "model.pt")
    assert type(found) is MultilayerClassifier
    assert found.classes_.dtype == model.classes_.dtype
    np.testing.assert_array_equal(found.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(found.predict(X), model.predict(X))
    assert found.loss_curve_ == model.loss_curve_
    for each in (model, found):
        each.partial_fit(X, y)
    np.testing.assert_array_equal(found.predict_proba(X), model.predict_proba(X))


def test_a_regressor_is_read_as_it_was_saved(tmp_path: Path) -> None:
    """With names of features, scores of early stopping, and arguments that numpy gave."""
    rows = polars.DataFrame(load_diabetes().data * 20, schema=load_diabetes().feature_names)
    model = MultilayerRegressor(
        alpha=np.float64(0.1), early_stopping=True, max_iter=5, random_state=np.int64(0)
    )
    model.fit(rows, load_diabetes().target).save(tmp_path / "model.pt")
    found = MultilayerRegressor.load(str(tmp_path / "model.pt"))
    np.testing.assert_array_equal(found.predict(rows), model.predict(rows))
    assert found.validation_scores_ == model.validation_scores_
    assert found.get_params() == model.get_params() | {"hidden_layer_sizes": [100]}


def changed(path: Path, **entries: Any) -> Path:
    """A file with other entries."""
    content = torch.load(path, weights_only=True)
    for key, value in entries.items():
        content[key] = value(content[key]) if callable(value) else value
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"name": "MultilayerRegressor"}, "holds a MultilayerRegressor, not a MultilayerClass"),
        ({"multilayer_estimator": 2}, "has format 2, and this version reads 1"),
        ({"params": lambda own: own | {"alpha": -1}}, "'alpha' parameter .* Got -1"),
        ({"params": lambda own: own | {"hidden_layer_sizes": [4]}}, "weights are those of another"),
        ({"params": lambda own: own | {"evil": 1}}, "unexpected keyword argument 'evil'"),
        ({"n_features": 5}, "weights are those of another network"),
        ({"n_outputs": 2}, "3 classes do not fit 2 outputs of softmax"),
        ({"link": "identity"}, "3 classes do not fit 3 outputs of identity"),
        ({"link": "sotfmax"}, "3 classes do not fit 3 outputs of sotfmax"),
        ({"classes": None}, "0 classes do not fit"),
        ({"classes": lambda own: own | {"dtype": "V8"}}, "classes.dtype"),
        ({"loss_curve": []}, "loss_curve"),
        ({"moments": lambda own: {"exp_avg": own["exp_avg"][:3]}}, r"moments must be \(\d+,\)"),
        ({"weights": lambda own: {key: each * torch.nan for key, each in own.items()}}, "finite"),
        ({"weights": {}}, "weights"),
        ({"more": 1}, "more"),
    ],
)
def test_what_was_changed_is_refused(saved: Path, entries: dict[str, Any], message: str) -> None:
    """With what does not fit, before anything is made of it."""
    with pytest.raises(ValueError, match=message):
        MultilayerClassifier.load(changed(saved, **entries))


def test_what_is_no_file_of_ours_is_refused(saved: Path, tmp_path: Path) -> None:
    """Damaged ones too; a pickle of more than plain data is not opened."""
    damaged = bytearray(saved.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "damaged.pt").write_bytes(damaged)
    torch.save({"other": 1}, tmp_path / "other.pt")
    torch.save(MultilayerClassifier(), tmp_path / "pickled.pt")
    (tmp_path / "text.pt").write_text("text")
    for name in ("damaged", "pickled", "text"):
        with pytest.raises(ValueError, match=f"{name}.pt is damaged, or not a checkpoint"):
            MultilayerClassifier.load(tmp_path / f"{name}.pt")
    with pytest.raises(ValueError, match=r"other\.pt holds no estimator that multilayer has saved"):
        MultilayerClassifier.load(tmp_path / "other.pt")


def test_a_generator_is_not_saved(tmp_path: Path) -> None:
    """It is no plain data; no file is left."""
    model = MultilayerClassifier(max_iter=1, random_state=np.random.RandomState(0)).fit(X, Y)
    with pytest.raises(ValueError, match=r"random_state must be plain data .*random_state=0"):
        model.save(tmp_path / "model.pt")
    assert not [*tmp_path.iterdir()]
