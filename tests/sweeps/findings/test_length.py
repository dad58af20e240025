"""Runs that were cut off."""

from multilayer.sweeps.findings.length import Ending, still_improving


def ending(best_epoch: int, gain: float | None = 0.1, ran_out: bool = True) -> Ending:
    """A run of 20 epochs."""
    return Ending(str(best_epoch), 20, best_epoch, ran_out, gain)


def test_runs_that_still_improved_are_counted() -> None:
    """Only where the number of epochs ended them, and the last ones brought something."""
    found = still_improving(
        [ending(20), ending(20, None), ending(10), ending(19, 0.0), ending(18)], ["20"]
    )
    assert found is not None
    assert found.text.startswith("1 of 5 finished runs")
    assert "the best config among them (its run)" in found.text
    assert "trainer.max_epochs=40" in found.text
    assert still_improving([ending(20, ran_out=False)], []) is None


def test_one_run_is_the_run() -> None:
    """And has no others."""
    found = still_improving([ending(20)], ["20"])
    assert found is not None
    assert found.text.startswith("the run had its best epoch")
