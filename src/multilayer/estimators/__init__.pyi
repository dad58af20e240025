from .classifier import MultilayerClassifier as MultilayerClassifier
from .regressor import MultilayerRegressor as MultilayerRegressor
