"""The estimators, against scikit-learn's own networks and by themselves."""

import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale

from multilayer import MultilayerClassifier, MultilayerRegressor

pytestmark = pytest.mark.filterwarnings(
    # Few epochs are enough for most of what is tested here; both kinds of networks warn of them.
    "ignore:the training has not converged",
    "ignore:Stochastic Optimizer",
)

IRIS = scale(load_iris().data), load_iris().target
CANCER = scale(load_breast_cancer().data), load_breast_cancer().target
DIABETES = scale(load_diabetes().data), load_diabetes().target / 100
TWO_TARGETS = DIABETES[0], np.column_stack([DIABETES[1], -DIABETES[1]])
LABELS = IRIS[0], np.eye(3, dtype=int)[IRIS[1]] + np.eye(3, dtype=int)[0]
LABELS = LABELS[0], LABELS[1].clip(max=1)


def assert_same_training(ours: Any, theirs: Any, *, n: int) -> None:
    """The same losses and weights, to rounding, of n epochs."""
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-9)
    assert ours.n_iter_ == theirs.n_iter_ == n
    for mine, its in zip(
        ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True
    ):
        np.testing.assert_allclose(mine, its, atol=1e-9)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"solver": "sgd", "learning_rate_init": 0.1, "alpha": 0.5},
        {"solver": "sgd", "nesterovs_momentum": False, "momentum": 0.5, "shuffle": False},
        {"solver": "sgd", "momentum": 0.0},
        {"activation": "logistic", "hidden_layer_sizes": (20, 10), "batch_size": 32},
        {"activation": "tanh", "hidden_layer_sizes": 7, "beta_1": 0.8, "epsilon": 1e-3},
        {"activation": "identity", "hidden_layer_sizes": (), "alpha": 3.0},
    ],
)
@pytest.mark.parametrize("rows", [IRIS, CANCER, LABELS], ids=["iris", "cancer", "labels"])
def test_a_classifier_trains_as_scikit_learns(arguments: dict[str, Any], rows: Any) -> None:
    """With the same seed: weights, losses and predictions, for classes, two classes and labels."""
    ours = MultilayerClassifier(**arguments, max_iter=7, random_state=3).fit(*rows)
    theirs = MLPClassifier(**arguments, max_iter=7, random_state=3).fit(*rows)
    assert_same_training(ours, theirs, n=7)
    np.testing.assert_array_equal(ours.predict(rows[0]), theirs.predict(rows[0]))
    np.testing.assert_allclose(
        ours.predict_proba(rows[0]), theirs.predict_proba(rows[0]), atol=1e-9
    )
    assert ours.out_activation_ == theirs.out_activation_


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_a_regressor_trains_as_scikit_learns(solver: str) -> None:
    """With the same seed."""
    arguments = {"solver": solver, "max_iter": 9, "batch_size": 50, "random_state": 1}
    ours, theirs = MultilayerRegressor(**arguments), MLPRegressor(**arguments)
    assert_same_training(ours.fit(*DIABETES), theirs.fit(*DIABETES), n=9)
    np.testing.assert_allclose(ours.predict(DIABETES[0]), theirs.predict(DIABETES[0]), atol=1e-9)


def test_several_targets_are_predicted_together() -> None:
    """The second is the first one's negative."""
    model = MultilayerRegressor(max_iter=300, learning_rate_init=0.01, random_state=0)
    found = model.fit(*TWO_TARGETS).predict(DIABETES[0])
    assert found.shape == TWO_TARGETS[1].shape
    assert model.score(*TWO_TARGETS) > 0.5
    assert np.corrcoef(found.T)[0, 1] < -0.95


@pytest.mark.parametrize(
    ("ours", "theirs", "rows"),
    [
        (MultilayerClassifier, MLPClassifier, IRIS),
        (MultilayerClassifier, MLPClassifier, CANCER),
        (MultilayerRegressor, MLPRegressor, DIABETES),
    ],
)
def test_early_stopping_is_scikit_learns(ours: Any, theirs: Any, rows: Any) -> None:
    """The same rows are held out, the same epoch is the best, and its weights are kept."""
    arguments = {"early_stopping": True, "learning_rate_init": 0.02, "random_state": 0}
    mine, its = ours(**arguments).fit(*rows), theirs(**arguments).fit(*rows)
    assert mine.n_iter_ < 200
    assert_same_training(mine, its, n=its.n_iter_)
    np.testing.assert_allclose(mine.validation_scores_, its.validation_scores_, rtol=1e-9)
    assert mine.best_validation_score_ == pytest.approx(its.best_validation_score_)
    assert mine.best_loss_ is None


def test_a_training_stops_where_scikit_learns_does() -> None:
    """By `tol` and `n_iter_no_change`; one that does not stop says so."""
    arguments = {"learning_rate_init": 0.05, "tol": 1e-3, "n_iter_no_change": 3, "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = MultilayerClassifier(**arguments).fit(*CANCER)
    assert ours.n_iter_ == MLPClassifier(**arguments).fit(*CANCER).n_iter_ < 60
    with pytest.warns(ConvergenceWarning, match="within max_iter=2 epochs"):
        MultilayerClassifier(max_iter=2).fit(*IRIS)


def test_weights_of_rows_are_scikit_learns() -> None:
    """In the loss, its gradient and the penalty."""
    weight = np.random.default_rng(0).uniform(0.1, 3, len(DIABETES[1]))
    arguments = {"alpha": 2.0, "max_iter": 5, "random_state": 0}
    ours = MultilayerRegressor(**arguments).fit(*DIABETES, weight)
    assert_same_training(ours, MLPRegressor(**arguments).fit(*DIABETES, weight), n=5)


@pytest.mark.parametrize("batch_size", ["auto", 16])
def test_a_row_of_weight_0_is_as_one_left_out(batch_size: Any) -> None:
    """To the last bit, also where a minibatch might have held such rows alone."""
    X, y = IRIS
    weight = np.where(np.arange(150) % 3, 1.0, 0.0)
    arguments = {"batch_size": batch_size, "max_iter": 5, "random_state": 0}
    with_all = MultilayerClassifier(**arguments).fit(X, y, weight)
    without = MultilayerClassifier(**arguments).fit(X[weight > 0], y[weight > 0])
    np.testing.assert_array_equal(with_all.predict_proba(X), without.predict_proba(X))


def test_a_warm_start_goes_on_as_scikit_learns() -> None:
    """From the weights, with new moments; the curve goes on."""
    ours = MultilayerClassifier(max_iter=4, warm_start=True, random_state=0)
    theirs = MLPClassifier(max_iter=4, warm_start=True, random_state=0)
    for _ in range(2):
        assert_same_training(ours.fit(*IRIS), theirs.fit(*IRIS), n=4)
    assert len(ours.loss_curve_) == 8


def test_partial_fits_are_scikit_learns() -> None:
    """Of minibatches, each an epoch: the moments of Adam go on, also after a pickle and a file."""
    X, y = CANCER
    ours, theirs = MultilayerClassifier(random_state=0), MLPClassifier(random_state=0)
    for start in range(0, 500, 100):
        rows = slice(start, start + 100)
        ours.partial_fit(X[rows], y[rows], classes=[0, 1])
        theirs.partial_fit(X[rows], y[rows], classes=[0, 1])
        ours = pickle.loads(pickle.dumps(ours))
    assert_same_training(ours, theirs, n=1)
    regressor = MultilayerRegressor(random_state=0).partial_fit(*DIABETES)
    first = regressor.loss_
    assert regressor.partial_fit(*DIABETES).loss_ < first


def test_partial_fit_knows_the_classes_from_its_first_call() -> None:
    """Those that are not in the first rows too."""
    X, y = IRIS
    model = MultilayerClassifier(random_state=0).partial_fit(X[:60], y[:60], classes=[0, 1, 2])
    assert model.predict_proba(X).shape == (150, 3)
    model.partial_fit(X[60:], y[60:])
    with pytest.raises(ValueError, match=r"classes=\[0, 1\] must be those .*: \[0, 1, 2\]"):
        model.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match=r"y must hold classes .*\[0, 1, 2\], got \[7\]"):
        model.partial_fit(X, np.full(150, 7))
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        MultilayerClassifier().partial_fit(X, y)
    with pytest.raises(ValueError, match=r"partial_fit .*early_stopping=True"):
        MultilayerRegressor(early_stopping=True).partial_fit(X, y)


def test_float32_stays() -> None:
    """Of features; others are computed with in float64."""
    X, y = IRIS
    model = MultilayerClassifier(max_iter=3).fit(X.astype(np.float32), y)
    assert {each.dtype for each in model.coefs_} == {np.dtype("float32")}
    assert model.predict_proba(X).dtype == np.float32
    assert model.fit((X * 100).astype(int), y).predict_proba(X).dtype == np.float64


@pytest.mark.parametrize(
    "arguments",
    [
        {"dropout": 0.3},
        {"dropout": [0.1, 0.4], "hidden_layer_sizes": (60, 30)},
        {"normalization": "batch"},
        {"normalization": "layer", "activation": "gelu"},
        {"activation": "Hardswish", "weight_decay": 0.1},
    ],
)
def test_what_scikit_learn_has_not_trains_too(arguments: dict[str, Any]) -> None:
    """And gives the same predictions each time, and from the same seed."""
    model = MultilayerClassifier(**arguments, learning_rate_init=0.01, max_iter=60, random_state=0)
    assert model.fit(*CANCER).score(*CANCER) > 0.97
    again = MultilayerClassifier(**model.get_params()).fit(*CANCER)
    np.testing.assert_array_equal(again.predict_proba(CANCER[0]), model.predict_proba(CANCER[0]))
    plain = MultilayerClassifier(learning_rate_init=0.01, max_iter=60, random_state=0).fit(*CANCER)
    assert plain.loss_curve_[1:] != model.loss_curve_[1:]


def test_weight_decay_is_adamws() -> None:
    """Against torch's own, from the same weights, with all rows in each step."""
    X, y = DIABETES
    arguments = {
        "alpha": 0.0,
        "batch_size": len(y),
        "random_state": 0,
        "weight_decay": 0.3,
        "epsilon": 1e-99,
    }
    start = MultilayerRegressor((5,), **arguments | {"weight_decay": 0.0}, max_iter=1)
    # One step of a rate that changes nothing: the weights to begin with.
    start.set_params(learning_rate_init=1e-300).fit(X, y)
    layers = [torch.nn.Linear(10, 5), torch.nn.ReLU(), torch.nn.Linear(5, 1)]
    network = torch.nn.Sequential(*layers).double()
    for layer, coef, intercept in zip(network[::2], start.coefs_, start.intercepts_, strict=True):
        layer.weight.data, layer.bias.data = torch.tensor(coef.T), torch.tensor(intercept)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, eps=1e-99, weight_decay=0.3)
    for _ in range(6):
        optimizer.zero_grad()
        error = network(torch.tensor(X))[:, 0] - torch.tensor(y)
        (error.square().mean() / 2).backward()
        optimizer.step()
    model = MultilayerRegressor((5,), **arguments, learning_rate_init=0.01, max_iter=6).fit(X, y)
    np.testing.assert_allclose(model.coefs_[0], network[0].weight.detach().numpy().T, atol=1e-7)


def test_it_goes_into_pipelines_and_searches() -> None:
    """Of scikit-learn's; labels may be words."""
    X, y = load_iris().data, load_iris().target_names[load_iris().target]
    model = MultilayerClassifier((20,), learning_rate_init=0.02, max_iter=40, random_state=0)
    pipeline = make_pipeline(StandardScaler(), model)
    assert cross_val_score(pipeline, X, y, cv=3).mean() > 0.9
    grid = {"multilayerclassifier__alpha": [1e-4, 100.0]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(X, y)
    assert search.best_params_ == {"multilayerclassifier__alpha": 1e-4}
    assert set(search.predict(X)) == {"setosa", "versicolor", "virginica"}


def test_a_seed_draws_nothing_from_torch_or_numpy() -> None:
    """Their own generators are where they were."""
    torch.manual_seed(0)
    np.random.seed(0)
    MultilayerClassifier(max_iter=2, random_state=0, dropout=0.1).fit(*IRIS)
    after = torch.rand(1).item(), np.random.rand()
    torch.manual_seed(0)
    np.random.seed(0)
    assert after == (torch.rand(1).item(), np.random.rand())


def test_verbose_prints_as_scikit_learn(capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each epoch, and another for its score."""
    MultilayerClassifier(max_iter=1, verbose=True, early_stopping=True, random_state=0).fit(*IRIS)
    mine = capsys.readouterr().out
    MLPClassifier(max_iter=1, verbose=True, early_stopping=True, random_state=0).fit(*IRIS)
    assert mine == capsys.readouterr().out != ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": -1}, r"'alpha' parameter .*range \[0.0, inf\). Got -1"),
        ({"solver": "lbfgs"}, r"'solver' parameter .*'adam'.* Got 'lbfgs'"),
        ({"activation": "relo"}, "unknown activation 'relo': did you mean relu?"),
        ({"hidden_layer_sizes": (5, 0)}, r"d_hidden must hold widths of at least 1, got \[5, 0\]"),
        ({"dropout": [0.1, 0.2]}, r"dropout must be one rate.*got \[0.1, 0.2\]"),
        ({"max_iter": 0}, r"'max_iter' parameter .*range \[1, inf\). Got 0"),
        ({"learning_rate_init": 1e300}, "the training diverged in epoch .*learning_rate_init=1e"),
        ({"early_stopping": True, "validation_fraction": 0.005}, "leaves 1"),
        ({"normalization": "batch", "batch_size": 149}, "149 of 150 rows leaves one row alone"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    """With what was expected and what came; nothing is fitted then."""
    model = MultilayerClassifier(**arguments, random_state=0)
    with pytest.raises(ValueError, match=message):
        model.fit(*IRIS)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        model.predict(IRIS[0])


def test_wrong_data_are_refused() -> None:
    """With what was expected and what came."""
    X, y = IRIS
    model = MultilayerClassifier(max_iter=1)
    with pytest.raises(ValueError, match=r"at least two classes, got one class: \[1\]"):
        model.fit(X, np.ones(150, int))
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        model.fit(X, X[:, 0])
    with pytest.raises(ValueError, match=r"one class a row.*several columns"):
        model.fit(X, np.column_stack([y, y]))
    with pytest.raises(ValueError, match="sample_weight must not be negative, got -1"):
        model.fit(X, y, -np.ones(150))
    with pytest.raises(ValueError, match="at least one non-zero number"):
        model.fit(X, y, np.zeros(150))
    with pytest.raises(
        ValueError, match="X has 3 features, but MultilayerClassifier is expecting 4"
    ):
        model.fit(X, y).predict(X[:, :3])
    model.set_params(warm_start=True, hidden_layer_sizes=(3,))
    with pytest.raises(ValueError, match="weights are those of another network"):
        model.fit(X, y)


def test_digits_are_learnt() -> None:
    """As well as by scikit-learn's network: it is the same one."""
    X, y = load_digits(return_X_y=True)
    model = MultilayerClassifier((32,), learning_rate_init=0.01, max_iter=15, random_state=0).fit(
        X[:1200], y[:1200]
    )
    theirs = MLPClassifier((32,), learning_rate_init=0.01, max_iter=15, random_state=0).fit(
        X[:1200], y[:1200]
    )
    assert model.score(X[1200:], y[1200:]) == theirs.score(X[1200:], y[1200:]) > 0.8
