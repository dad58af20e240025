"""What the packages offer to others: each public name has an example, which pytest runs."""

import inspect
from importlib import import_module

import pytest

PACKAGES = ["", ".nn", ".data", ".training", ".callbacks", ".stacking", ".plotting", ".lr_sweep"]
PACKAGES += [".runs"]
WITHOUT = {
    "BatchIterator": "abstract: an example is that of Minibatches",
    "StackedOptimizer": "abstract: an example is that of stacked_form_of",
    "Record": "a protocol, whose instances a callback is given: an example is EpochCallback's",
}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_has_an_example(package: str) -> None:
    """In its docstring."""
    module = import_module(f"multilayer{package}")
    for name in module.__all__:
        found = getattr(module, name)
        if name not in WITHOUT and (inspect.isclass(found) or inspect.isfunction(found)):
            assert ">>> " in (found.__doc__ or ""), name
