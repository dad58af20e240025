from .checkpoint import CheckpointFiles as CheckpointFiles
from .checkpoint import read_checkpoint as read_checkpoint
from .folder import RunFolder as RunFolder
from .folder import find_checkpoint as find_checkpoint
