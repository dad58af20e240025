"""Where the members of a stack have dropout: what none of them has, the stack leaves out."""

from copy import deepcopy

from multilayer.stacking.dropout import HashedDropout
from multilayer.stacking.layers import LAYER_CONVERSIONS
from multilayer.stacking.model import StackedModel
from multilayer.training.task_model import TaskModel

_DROPOUTS = tuple(
    kind for kind, other in LAYER_CONVERSIONS.items() if issubclass(other, HashedDropout)
)


def pattern_of(model: StackedModel, first: TaskModel) -> TaskModel:
    """A copy of a member's that has dropout where the stack has: next to it others have it too."""
    pattern = deepcopy(first)
    for name, layer in pattern.named_modules():
        if isinstance(layer, _DROPOUTS):
            vars(layer)["p"] = 0.5 * isinstance(model.get_submodule(name), HashedDropout)
    return pattern


def has_its_dropout(pattern: TaskModel, task_model: TaskModel) -> bool:
    """Whether a stack, by its `pattern_of`, has dropout in each layer where a member has."""
    layers = dict(task_model.named_modules())
    return not any(
        getattr(layers.get(name), "p", 0)
        for name, layer in pattern.named_modules()
        if isinstance(layer, _DROPOUTS) and not layer.p
    )
