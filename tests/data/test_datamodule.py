"""Where the rows of a data set are."""

import pytest
import torch

from multilayer.data import BuiltinData

ELSEWHERE = torch.device("meta")  # stands for a GPU; what is there has a shape and no values


def set_up(free: int, monkeypatch: pytest.MonkeyPatch) -> BuiltinData:
    """The iris data set, on a machine whose device has so many bytes free."""
    monkeypatch.setattr("multilayer.data.datamodule.free_memory", lambda device: free)
    data = BuiltinData(name="iris", batch_size=64)
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
