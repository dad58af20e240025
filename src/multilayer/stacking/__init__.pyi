from .optimizers import StackedOptimizer as StackedOptimizer
from .optimizers import stacked_form_of as stacked_form_of
