from .loggers import TensorBoard as TensorBoard
from .module import BinaryModule as BinaryModule
from .module import MulticlassModule as MulticlassModule
from .module import RegressionModule as RegressionModule
from .module import SupervisedModule as SupervisedModule
from .schedulers import cosine as cosine
from .schedulers import one_cycle as one_cycle
