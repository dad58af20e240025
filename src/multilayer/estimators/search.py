"""A search whose candidates and folds train together."""

import warnings
from collections.abc import Mapping, Sequence
from itertools import product
from time import perf_counter
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import ParameterGrid, ParameterSampler, check_cv

# scikit-learn's searches are made of these, which are not public: whoever wants `cv_results_`, the
# refit and the errors to be scikit-learn's has to use them. The tests compare with `GridSearchCV`.
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._validation import (
    _fit_and_score,
    _insert_error_scores,
    _warn_or_raise_about_fit_failures,
)
from sklearn.pipeline import Pipeline
from sklearn.utils import indexable
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.validation import _check_method_params

from multilayer.core.text import counted
from multilayer.estimators.batch import Batch, collecting
from multilayer.estimators.perceptron import MultilayerPerceptron
from multilayer.training.runtime import ready_memory

Candidates = Sequence[Mapping[str, Any]]
Splits = Sequence[tuple[Any, Any]]


class LockstepSearchCV(BaseSearchCV):  # type: ignore[misc]  # scikit-learn has no types
    """A search over arguments with cross-validation, all of whose networks train together.

    It is used as `GridSearchCV` is, or with `param_distributions` as `RandomizedSearchCV`, and has
    the same `cv_results_` to rounding. Candidates and folds train in stacks: those whose networks
    have the same shape, as many rows and the same `batch_size` train together, whatever else
    differs.

    Args:
        estimator: a `MultilayerClassifier`, a `MultilayerRegressor`, or a `Pipeline` that ends with
            one.
        param_grid: the arguments to try, all combinations, as for `GridSearchCV`.
        param_distributions: instead of that, what they are drawn from, as for `RandomizedSearchCV`.
        n_iter: how many candidates are drawn.
        scoring: as for `GridSearchCV`.
        n_jobs: the CPU threads; None and -1 for what suits the size of the networks.
        refit: as for `GridSearchCV`.
        cv: as for `GridSearchCV`.
        verbose: as for `GridSearchCV`.
        random_state: of the candidates that are drawn.
        error_score: as for `GridSearchCV`.
        return_train_score: as for `GridSearchCV`.

    The attributes are those of `GridSearchCV`. In `cv_results_` the time of a fit is its share of
    the time of its stack.

    >>> from sklearn.datasets import load_iris
    >>> from multilayer import MultilayerClassifier
    >>> grid = {"learning_rate_init": [1e-5, 0.05], "alpha": [1e-4, 1e-2]}
    >>> model = MultilayerClassifier((20,), early_stopping=True, random_state=0)
    >>> search = LockstepSearchCV(model, grid)
    >>> search.fit(*load_iris(return_X_y=True)).best_params_["learning_rate_init"]
    0.05
    """

    def __init__(
        self,
        estimator: Any,
        param_grid: Any = None,
        *,
        param_distributions: Any = None,
        n_iter: int = 10,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        random_state: Any = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
    ) -> None:
        super().__init__(
            estimator=estimator,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.param_grid = param_grid
        self.param_distributions = param_distributions
        self.n_iter = n_iter
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Search, and fit the best candidate to all rows.

        Args:
            X: features.
            y: targets.
            params: for `fit`, such as `sample_weight`, or for the splitter, such as `groups`.
        """
        self._validate_params()
        candidates = self._candidates()
        _check_estimator(self.estimator)
        scorers, refit_metric = self._get_scorers()
        X, y = indexable(X, y)
        params = _check_method_params(X, params=params)
        routed = self._get_routed_params_for_fit(params)
        splitter = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        splits = list(splitter.split(X, y, **routed.splitter.split))
        self.n_splits_ = len(splits)
        results = self._evaluate(X, y, candidates, splits, scorers, routed)
        self._choose(results, refit_metric, scorers)
        if self.refit:
            self._refit(X, y, routed.estimator.fit)
        return self

    def _candidates(self) -> Candidates:
        """What is to be tried.

        Raises:
            ValueError: Neither or both of the grid and the distributions are given.
        """
        if (self.param_grid is None) == (self.param_distributions is None):
            given = "neither" if self.param_grid is None else "both"
            raise ValueError(
                f"give either param_grid or param_distributions with n_iter, got {given}"
            )
        if self.param_grid is not None:
            return list(ParameterGrid(self.param_grid))
        drawn = ParameterSampler(
            self.param_distributions, self.n_iter, random_state=self.random_state
        )
        return list(drawn)

    # Evaluating candidates ------------------------------------------------------------------

    def _evaluate(
        self, X: Any, y: Any, candidates: Candidates, splits: Splits, scorers: Any, routed: Any
    ) -> dict[str, Any]:
        """Train all candidates on all splits, and score them: what `cv_results_` holds."""
        if self.verbose > 0:
            print(
                f"Fitting {self.n_splits_} folds for each of {len(candidates)} candidates,"
                f" totalling {self.n_splits_ * len(candidates)} fits"
            )
        pairs = list(product(candidates, splits))
        if not pairs:
            raise ValueError("no fits were performed: there are no candidates, or no splits")
        begun, outcomes = self._train(X, y, candidates, splits, routed.estimator.fit)
        out = []
        for i, (fit, (_, (train, test))) in enumerate(zip(begun, pairs, strict=True)):
            estimator, seconds, error = fit
            outcome = outcomes.get(_last(estimator))
            why_not = error or (outcome.error if outcome else None)
            found = _fit_and_score(
                _already_fitted(estimator, why_not),
                X,
                y,
                scorer=scorers,
                train=train,
                test=test,
                verbose=self.verbose,
                parameters=None,
                fit_params=None,
                score_params=routed.scorer.score,
                return_train_score=self.return_train_score,
                return_n_test_samples=True,
                return_times=True,
                split_progress=(i % self.n_splits_, self.n_splits_),
                candidate_progress=(i // self.n_splits_, len(candidates)),
                error_score=self.error_score,
            )
            found["fit_time"] = seconds + (outcome.seconds if outcome else 0.0)
            out.append(found)
        _warn_or_raise_about_fit_failures(out, self.error_score)
        if callable(self.scoring):
            _insert_error_scores(out, self.error_score)
        self.multimetric_ = isinstance(out[0]["test_scores"], dict)
        if callable(self.scoring) and self.multimetric_:
            self._check_refit_for_multimetric(out[0]["test_scores"])
        results: dict[str, Any] = self._format_results(candidates, self.n_splits_, out)
        return results

    def _train(
        self, X: Any, y: Any, candidates: Candidates, splits: Splits, fit_params: Any
    ) -> tuple[list[tuple[Any, float, Exception | None]], dict[Any, Any]]:
        """Fit each candidate to each split.

        Returns:
            The estimators, with the seconds that it took to prepare them, and why that failed; and
            the outcomes of those that trained.
        """
        batch, begun, base = Batch(), [], clone(self.estimator)
        parts = [  # of each split once, not for each candidate
            (*_safe_split(base, X, y, train), _check_method_params(X, fit_params, train))
            for train, _ in splits
        ]
        for candidate, (X_train, y_train, own) in product(candidates, parts):
            start, error = perf_counter(), None
            estimator = clone(base).set_params(**clone(candidate, safe=False))
            _check_estimator(estimator)
            try:
                with collecting(batch):
                    estimator.fit(X_train, y_train, **own)
            except Exception as raised:  # whatever it is, `error_score` says what becomes of it
                error = raised
            begun.append((estimator, perf_counter() - start, error))
        if self.verbose > 0:
            print("Training " + ", ".join(counted(len(each), "fit") for each in batch.stacks()))
        with ready_memory():
            outcomes = batch.train("auto" if self.n_jobs in (None, -1) else self.n_jobs)
        n_going_on = sum(not each.has_stopped for each in outcomes.values() if not each.error)
        if n_going_on:
            warnings.warn(
                f"{n_going_on} of {counted(len(outcomes), 'training')} have not converged within "
                f"max_iter epochs",
                ConvergenceWarning,
                stacklevel=4,
            )
        return begun, outcomes

    # The best of them -----------------------------------------------------------------------

    def _choose(self, results: dict[str, Any], refit_metric: str, scorers: Any) -> None:
        """Note the results and the best candidate, as scikit-learn's searches do."""
        if callable(self.scoring) and self.multimetric_:
            refit_metric = self.refit
        if self.refit or not self.multimetric_:
            self.best_index_ = self._select_best_index(self.refit, refit_metric, results)
            if not callable(self.refit):
                self.best_score_ = results[f"mean_test_{refit_metric}"][self.best_index_]
            self.best_params_ = results["params"][self.best_index_]
        self.scorer_ = getattr(scorers, "_scorers", scorers)
        self.cv_results_ = results

    def _refit(self, X: Any, y: Any, fit_params: dict[str, Any]) -> None:
        """Fit the best candidate to all rows."""
        best = clone(self.best_params_, safe=False)
        self.best_estimator_ = clone(self.estimator).set_params(**best)
        start = perf_counter()
        self.best_estimator_.fit(X, y, **fit_params)
        self.refit_time_ = perf_counter() - start
        if hasattr(self.best_estimator_, "feature_names_in_"):
            self.feature_names_in_ = self.best_estimator_.feature_names_in_


def _last(estimator: Any) -> Any:
    """An estimator, or the last step of a pipeline."""
    return estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator


def _check_estimator(estimator: Any) -> None:
    """Raise `TypeError` unless an estimator is one of ours, or a pipeline that ends with one."""
    if not isinstance(_last(estimator), MultilayerPerceptron):
        kind = type(_last(estimator)).__name__
        raise TypeError(
            f"estimator must be a MultilayerClassifier, a MultilayerRegressor, or a Pipeline that "
            f"ends with one, got {kind}; use GridSearchCV for others"
        )


def _already_fitted(estimator: BaseEstimator, error: Exception | None) -> BaseEstimator:
    """An estimator whose `fit` does nothing any more, or raises why it failed.

    So scikit-learn's own function scores it, and does what `error_score` says.
    """

    def fit(*_: Any, **__: Any) -> BaseEstimator:
        if error is not None:
            raise error
        return estimator

    vars(estimator)["fit"] = fit
    return estimator
