from .optimizers import stacked_form_of as stacked_form_of
from .stacked_optimizer import StackedOptimizer as StackedOptimizer
