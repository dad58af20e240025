"""What the packages offer to others: each public name has an example, which pytest runs."""

import inspect
from importlib import import_module

import pytest

PACKAGES = ["", ".nn", ".data", ".training", ".callbacks", ".stacking", ".plotting", ".lr_sweep"]
PACKAGES += [".runs", ".core", ".cli", ".sweeps", ".reports", ".estimators"]
WITHOUT = {
    "BatchIterator": "abstract: an example is that of Minibatches",
    "StackedOptimizer": "abstract: an example is that of stacked_form_of",
    "Worker": "of a ledger, whose example is Ledger's",
    "Session": "likewise",
    "close_sessions": "likewise",
    "Sweep": "read from the folder of a sweep, as the guides show",
    "SweepFolder": "a callback of Hydra",
    "open_sweep": "takes the folder of a sweep",
    "print_sweep": "likewise",
    "rank_configs": "takes a Sweep",
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
