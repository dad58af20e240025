"""Where the rows of a data set are."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch

from multilayer.data import BuiltinDataset, PassClassDataset, Table

ELSEWHERE = torch.device("meta")  # stands for a GPU; what is there has a shape and no values


def set_up(free: int, monkeypatch: pytest.MonkeyPatch) -> BuiltinDataset:
    """The iris data set, on a machine whose device has `free` bytes free."""
    monkeypatch.setattr("multilayer.data.dataset.free_memory", lambda device: free)
    data = BuiltinDataset(name="iris", batch_size=64)
    data.setup()
    return data


def test_a_table_that_fits_lives_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is moved once, for all splits and epochs."""
    data = set_up(10**6, monkeypatch)
    first, second = data.train_minibatches(ELSEWHERE), data.minibatches("test", ELSEWHERE)
    assert first.features.device == ELSEWHERE
    assert first.features is second.features
    assert first.target is second.target
    assert data.features.device.type == "cpu"


def test_a_table_too_large_for_the_device_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its minibatches are moved one by one."""
    data = set_up(150 * 5 * 4, monkeypatch)
    minibatches = data.train_minibatches(ELSEWHERE)
    assert minibatches.features is data.features
    assert {x.device for x, _ in minibatches} == {ELSEWHERE}


class Students(PassClassDataset):
    """The first students again and again."""

    def __init__(self, n_rows: int, **options: Any) -> None:
        super().__init__(**options)
        self.n_rows = n_rows

    def load(self) -> Table:
        table = super().load()
        rows = torch.arange(self.n_rows) % len(table.target)
        return replace(table, features=table.features[rows], target=table.target[rows])


@pytest.mark.parametrize(
    ("n_rows", "validation", "size"), [(27_776, 0.15, 64), (27_778, 0.15, 256), (27_778, 0.4, 256)]
)
def test_large_tables_have_larger_minibatches(n_rows: int, validation: float, size: int) -> None:
    """By the rows that are not tested, however these are shared out; nothing says what is usual."""
    data = Students(n_rows, validation_fraction=validation, test_fraction=0.1)
    assert data.batch_size == "auto"
    data.setup()
    n_known = len(data.rows["train"]) + len(data.rows["validation"])
    assert (n_known >= 25_000) == (size == 256)
    assert data.batch_size == data.train_minibatches().batch_size == size
    assert ("minibatches of 256 rows" in data.describe()) == (size == 256)
    assert ("minibatches" in data.describe()) == (size != 64)


def test_a_number_of_rows_per_minibatch_stays() -> None:
    data = Students(30_000, batch_size=8)
    data.setup()
    assert data.train_minibatches().batch_size == 8


def test_a_data_set_needs_torch_alone() -> None:
    """Loading, splitting and preprocessing import neither Lightning nor scikit-learn."""
    code = (
        "import sys; from multilayer.data import BuiltinDataset; "
        "data = BuiltinDataset(name='digits'); data.setup(); next(iter(data.train_minibatches())); "
        "print({'pytorch_lightning', 'torchmetrics', 'sklearn', 'scipy'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
