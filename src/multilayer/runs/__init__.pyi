from .checkpoint import read_checkpoint as read_checkpoint
from .checkpoint import write_checkpoint as write_checkpoint
from .folder import Result as Result
from .folder import RunFolder as RunFolder
from .folder import find_checkpoint as find_checkpoint
