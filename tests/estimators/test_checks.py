"""scikit-learn's own checks of estimators, without an exception."""

from typing import Any

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from multilayer import MultilayerClassifier, MultilayerRegressor


# They fit for a few epochs, and ours warns of that as scikit-learn's networks do.
@pytest.mark.filterwarnings("ignore:the training has not converged")
@parametrize_with_checks([MultilayerClassifier(), MultilayerRegressor()])
def test_scikit_learns_check(estimator: Any, check: Any) -> None:
    """Its name says what."""
    check(estimator)
