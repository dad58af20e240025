"""The search in stacks, against scikit-learn's over the same estimators, one by one."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import BaggingClassifier
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer, mean_absolute_error
from sklearn.model_selection import GridSearchCV, GroupKFold, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale

from multilayer import LockstepSearchCV, MultilayerClassifier, MultilayerRegressor

pytestmark = pytest.mark.filterwarnings(
    "ignore:the training has not converged", "ignore:.* trainings? have not converged"
)

IRIS = scale(load_iris().data), load_iris().target
CANCER = load_breast_cancer(return_X_y=True)
DIABETES = scale(load_diabetes().data), load_diabetes().target / 100
SMALL = MultilayerClassifier((8,), max_iter=12, random_state=0)


def assert_same_results(ours: Any, theirs: Any) -> None:
    """The same candidates with the same scores, to rounding, and the same best one."""
    mine, its = ours.cv_results_, theirs.cv_results_
    assert list(mine) == list(its)
    assert mine["params"] == its["params"]
    for key in its:
        if "score" in key and "time" not in key and not key.startswith("rank"):
            np.testing.assert_allclose(mine[key], its[key], atol=1e-7, err_msg=key)
    assert ours.best_params_ == theirs.best_params_
    assert ours.best_score_ == pytest.approx(theirs.best_score_)
    assert ours.n_splits_ == theirs.n_splits_


def test_a_grid_is_searched_as_by_grid_search() -> None:
    """Candidates of several shapes, some with early stopping; then the best is fitted again."""
    grid = [
        {"learning_rate_init": [1e-3, 0.05], "alpha": [1e-4, 1.0], "dropout": [0.0, 0.2]},
        {"hidden_layer_sizes": [(4,), (6, 5)], "batch_size": [16]},
        {"early_stopping": [True], "n_iter_no_change": [1, 3], "learning_rate_init": [0.05]},
        {"solver": ["sgd"], "momentum": [0.0, 0.9], "random_state": [0, 1], "max_iter": [4]},
    ]
    ours = LockstepSearchCV(SMALL, grid, cv=4, return_train_score=True).fit(*IRIS)
    assert_same_results(ours, GridSearchCV(SMALL, grid, cv=4, return_train_score=True).fit(*IRIS))
    alone = clone(SMALL).set_params(**ours.best_params_).fit(*IRIS)
    np.testing.assert_array_equal(ours.predict_proba(IRIS[0]), alone.predict_proba(IRIS[0]))
    assert ours.score(*IRIS) == alone.score(*IRIS)
    assert ours.classes_.tolist() == [0, 1, 2]


def test_candidates_are_drawn_as_by_randomized_search() -> None:
    """From distributions, of a regressor, by a metric of another name and by several."""
    model = MultilayerRegressor((6,), max_iter=10, random_state=0)
    drawn = {"learning_rate_init": loguniform(1e-4, 1e-1), "weight_decay": [0.0, 0.1]}
    scoring = {"mae": make_scorer(mean_absolute_error, greater_is_better=False), "r2": "r2"}
    options = {"n_iter": 6, "random_state": 3, "cv": 3, "scoring": scoring, "refit": "mae"}
    ours = LockstepSearchCV(model, param_distributions=drawn, **options).fit(*DIABETES)
    assert_same_results(ours, RandomizedSearchCV(model, drawn, **options).fit(*DIABETES))
    assert ours.multimetric_


def test_a_pipeline_is_searched_with_its_steps() -> None:
    """Each fold is scaled by its own rows; arguments of other steps may differ, too."""
    pipeline = make_pipeline(StandardScaler(), SMALL)
    grid = {
        "standardscaler__with_mean": [True, False],
        "multilayerclassifier__learning_rate_init": [0.001, 0.02],
    }
    groups = np.arange(len(CANCER[1])) % 7
    options: dict[str, Any] = {"cv": GroupKFold(3), "scoring": "roc_auc"}
    ours = LockstepSearchCV(pipeline, grid, **options).fit(*CANCER, groups=groups)
    assert_same_results(ours, GridSearchCV(pipeline, grid, **options).fit(*CANCER, groups=groups))
    assert ours.best_estimator_.score(*CANCER) > 0.9


def test_weights_of_rows_are_divided_with_them() -> None:
    """As by scikit-learn."""
    weight = np.random.default_rng(0).uniform(0.1, 2, len(IRIS[1]))
    grid = {"alpha": [0.01, 0.1]}
    ours = LockstepSearchCV(SMALL, grid, cv=3).fit(*IRIS, sample_weight=weight)
    theirs = GridSearchCV(SMALL, grid, cv=3).fit(*IRIS, sample_weight=weight)
    assert_same_results(ours, theirs)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_many_candidates_fill_several_blocks(n_threads: int) -> None:
    """And leave them one by one, as they stop."""
    grid = {"learning_rate_init": np.geomspace(1e-3, 0.3, 12), "n_iter_no_change": [1, 4]}
    model = clone(SMALL).set_params(max_iter=60, tol=1e-3)
    ours = LockstepSearchCV(model, grid, cv=3, n_jobs=n_threads).fit(*IRIS)
    assert_same_results(ours, GridSearchCV(model, grid, cv=3).fit(*IRIS))


def test_a_candidate_that_fails_has_the_error_score() -> None:
    """Whether it diverges, or cannot be; the others are as they were."""
    grid = {"learning_rate_init": [0.01, 1e300], "activation": ["relu", "relo"]}
    with pytest.warns(FitFailedWarning, match="9 fits failed out of a total of 12"):
        ours = LockstepSearchCV(SMALL, grid, cv=3, error_score=-1).fit(*IRIS)
    alone = LockstepSearchCV(SMALL, {"learning_rate_init": [0.01]}, cv=3).fit(*IRIS)
    assert sorted(ours.cv_results_["mean_test_score"])[:3] == [-1, -1, -1]
    assert ours.best_score_ == pytest.approx(alone.best_score_)
    with pytest.raises(ValueError, match="the training diverged in epoch"):
        LockstepSearchCV(SMALL, grid, cv=3, error_score="raise").fit(*IRIS)


def test_what_has_not_converged_is_said_once() -> None:
    """With how many there are."""
    search = LockstepSearchCV(SMALL, {"max_iter": [1, 2]}, cv=3, refit=False)
    with pytest.warns(ConvergenceWarning) as warned:
        search.fit(*IRIS)
    assert [str(each.message) for each in warned] == [
        "6 of 6 trainings have not converged within max_iter epochs"
    ]


def test_times_add_up_and_progress_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a fit it is its share of its stack's."""
    LockstepSearchCV(SMALL, {"alpha": [0.1, 1]}, cv=4, verbose=2, refit=False).fit(*IRIS)
    printed = capsys.readouterr().out
    assert "Fitting 4 folds for each of 2 candidates, totalling 8 fits" in printed
    assert "Training 4 fits, 4 fits\n" in printed  # of 112 and of 113 rows
    assert printed.count("END ..") == 8


def test_a_search_that_cannot_be_is_refused() -> None:
    """With what was expected and what came."""
    for estimator in (LogisticRegression(), BaggingClassifier(SMALL)):
        with pytest.raises(TypeError, match=r"must be a MultilayerClassifier.*GridSearchCV"):
            LockstepSearchCV(estimator, {}).fit(*IRIS)
    grid = {"multilayerclassifier": [SMALL, LogisticRegression()]}
    with pytest.raises(TypeError, match="got LogisticRegression"):
        LockstepSearchCV(make_pipeline(SMALL), grid).fit(*IRIS)
    with pytest.raises(ValueError, match=r"either param_grid or param_distributions.*got neither"):
        LockstepSearchCV(SMALL).fit(*IRIS)
    with pytest.raises(ValueError, match=r"either param_grid or param_distributions.*got both"):
        LockstepSearchCV(SMALL, {}, param_distributions={}).fit(*IRIS)
    with pytest.raises(ValueError, match="Invalid parameter 'alhpa'"):
        LockstepSearchCV(SMALL, {"alhpa": [1]}).fit(*IRIS)
    with pytest.raises(NotFittedError):
        LockstepSearchCV(SMALL, {}).predict(IRIS[0])
