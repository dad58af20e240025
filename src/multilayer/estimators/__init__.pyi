from .classifier import MultilayerClassifier as MultilayerClassifier
from .regressor import MultilayerRegressor as MultilayerRegressor
from .search import LockstepSearchCV as LockstepSearchCV
