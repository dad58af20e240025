"""Every schedule of conf/scheduler against rates computed by hand."""

import math

import pytest
import torch

from multilayer.cli.check import check_command_line
from multilayer.cli.tasks import train
from multilayer.core.config_folder import conf_dir
from multilayer.training.components import make_scheduler
from multilayer.training.schedulers import cosine, one_cycle

from ..lockstep.test_equivalence import scalars

LR = 0.5


def optimizer_at(lr):
    """Gradient descent on nothing, for its rate."""
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)


def rates_of(optimizer, scheduler, n):
    """The rate at each of n calls of the optimizer, the scheduler moving on after each."""
    rates = []
    for _ in range(n):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def scheduled(name, *overrides, n_steps=100):
    """An optimizer and the schedule that `scheduler=NAME` gives it."""
    config = check_command_line("train", [f"scheduler={name}", f"optimizer.lr={LR}", *overrides])
    optimizer = optimizer_at(LR)
    return optimizer, make_scheduler(config, n_steps=n_steps)(optimizer)


def cosine_rates(n_steps, n_warmup, final):
    """n_warmup equal steps up to 1, then Loshchilov and Hutter 2017, equation 5, down to final."""
    rise = [(step + 1) / n_warmup for step in range(n_warmup)]
    n_left = n_steps - n_warmup
    fall = [
        final + (1 - final) * (1 + math.cos(math.pi * (step + 1) / (n_left + 1))) / 2
        for step in range(n_left)
    ]
    return [LR * rate for rate in rise + fall]


@pytest.mark.parametrize("final", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(
    ("n_steps", "warmup", "n_warmup"),
    [(100, 0.05, 5), (100, 0.0, 0), (10, 0.25, 3), (7, 0.9, 7), (1000, 0.5, 500)],
)
def test_cosine_rises_and_falls_as_written(n_steps, warmup, n_warmup, final):
    """A linear rise over the fraction `warmup` of the steps, rounded up, then half a cosine."""
    optimizer = optimizer_at(LR)
    scheduler = cosine(optimizer, n_steps=n_steps, warmup_fraction=warmup, final_fraction=final)
    rates = rates_of(optimizer, scheduler, n_steps)
    assert rates == pytest.approx(cosine_rates(n_steps, n_warmup, final), abs=1e-12)
    assert max(rates) <= LR
    assert min(rates) > 0


@pytest.mark.parametrize(("warmup", "n_warmup"), [(0.07, 7), (0.28, 28)])
def test_warmup_is_the_share_as_it_was_written(warmup, n_warmup):
    """7 of 100 steps for 0.07, although 0.07 * 100 is a little more in floating point."""
    assert warmup * 100 > n_warmup
    optimizer = optimizer_at(LR)
    rates = rates_of(optimizer, cosine(optimizer, n_steps=100, warmup_fraction=warmup), 100)
    assert rates.index(max(rates)) == n_warmup - 1


def test_cosine_rises_over_a_twentieth_and_falls_to_nothing_unless_told():
    """What a call from Python gets that names the number of steps alone."""
    optimizer = optimizer_at(LR)
    rates = rates_of(optimizer, cosine(optimizer, n_steps=200), 200)
    assert rates == pytest.approx(cosine_rates(200, 10, 0.0), abs=1e-12)


def test_cosine_that_only_rises_ends_at_its_last_rate():
    """A share of 0.9 of 7 steps is all 7: what comes after them is the end."""
    optimizer = optimizer_at(LR)
    rates = rates_of(
        optimizer, cosine(optimizer, n_steps=7, warmup_fraction=0.9, final_fraction=0.2), 10
    )
    assert rates == pytest.approx([LR * (step + 1) / 7 for step in range(7)] + [0.2 * LR] * 3)


def test_cosine_keeps_its_last_rate_after_the_end():
    """Steps beyond the schedule go on at the final rate and not up again."""
    optimizer = optimizer_at(LR)
    rates = rates_of(
        optimizer, cosine(optimizer, n_steps=20, warmup_fraction=0.1, final_fraction=0.2), 50
    )
    assert rates[20:] == pytest.approx([0.2 * LR] * 30)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"warmup_fraction": 1.0}, "warmup_fraction .* got 1.0"),
        ({"warmup_fraction": -0.1}, "warmup_fraction .* got -0.1"),
        ({"final_fraction": 1.5}, "final_fraction .* got 1.5"),
        ({"final_fraction": -0.1}, "final_fraction .* got -0.1"),
    ],
)
def test_wrong_argument_of_cosine_is_named(arguments, message):
    """A share outside its range is one `ValueError`."""
    with pytest.raises(ValueError, match=message):
        cosine(optimizer_at(LR), n_steps=10, **arguments)


def test_every_schedule_is_checked_below():
    """A new file in conf/scheduler needs a test of its rates here."""
    checked = {"constant", "cosine", "exponential", "one_cycle", "plateau", "step"}
    assert {path.stem for path in (conf_dir() / "scheduler").glob("*.yaml")} == checked


def test_constant_keeps_the_rate():
    """`scheduler=constant` is the optimizer's rate throughout."""
    assert rates_of(*scheduled("constant"), 20) == [LR] * 20


def test_step_multiplies_by_gamma_every_step_size_epochs():
    """`scheduler=step` gives lr gamma^floor(epoch / step_size)."""
    rates = rates_of(
        *scheduled("step", "scheduler.scheduler.step_size=3", "scheduler.scheduler.gamma=0.5"), 10
    )
    assert rates == pytest.approx([LR * 0.5 ** (epoch // 3) for epoch in range(10)])


def test_exponential_multiplies_by_gamma_every_epoch():
    """`scheduler=exponential` gives lr gamma^epoch."""
    rates = rates_of(*scheduled("exponential", "scheduler.scheduler.gamma=0.8"), 10)
    assert rates == pytest.approx([LR * 0.8**epoch for epoch in range(10)])


def test_cosine_spans_the_whole_training():
    """`scheduler=cosine` ends with the last of the planned steps."""
    optimizer, scheduler = scheduled(
        "cosine",
        "scheduler.scheduler.warmup_fraction=0.1",
        "scheduler.scheduler.final_fraction=0.01",
        n_steps=40,
    )
    rates = rates_of(optimizer, scheduler, 40)
    assert rates == pytest.approx(cosine_rates(40, 4, 0.01), abs=1e-12)


def test_one_cycle_peaks_at_the_optimizer_s_rate():
    """`scheduler=one_cycle` rises from lr/25 over the share `pct_start`, then falls to nothing.

    Both ways along half a cosine; 25 and 10,000 are torch's `div_factor` and `final_div_factor`.
    """
    n_steps, n_up = 100, 30
    optimizer, scheduler = scheduled(
        "one_cycle", "scheduler.scheduler.pct_start=0.3", n_steps=n_steps
    )
    rates = rates_of(optimizer, scheduler, n_steps)

    def along(start, end, share):
        return end + (start - end) * (1 + math.cos(math.pi * share)) / 2

    up = [along(LR / 25, LR, step / (n_up - 1)) for step in range(n_up)]
    n_down = n_steps - n_up
    down = [along(LR, LR / 25 / 1e4, (step + 1) / n_down) for step in range(n_down)]
    assert rates == pytest.approx(up + down, abs=1e-12)
    assert rates.index(max(rates)) == n_up - 1
    assert max(rates) == pytest.approx(LR)


@pytest.mark.parametrize(("arguments", "peaks"), [({}, [0.5, 0.1]), ({"max_lr": 0.3}, [0.3, 0.3])])
def test_one_cycle_peaks_at_each_group_s_own_rate_or_at_the_one_named(arguments, peaks):
    """A group of parameters with a rate of its own keeps it at the peak."""
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": lr} for lr in (0.5, 0.1)]
    optimizer = torch.optim.SGD(groups)
    scheduler = one_cycle(optimizer, total_steps=20, cycle_momentum=False, **arguments)
    rates = []
    for _ in range(20):
        rates.append(scheduler.get_last_lr())
        optimizer.step()
        scheduler.step()
    assert [max(group) for group in zip(*rates[:20], strict=True)] == pytest.approx(peaks)


@pytest.mark.parametrize(("mode", "better", "worse"), [("min", 1.0, 2.0), ("max", 2.0, 1.0)])
def test_plateau_reduces_the_rate_after_patience(mode, better, worse):
    """More than `patience` epochs without improvement multiply the rate by `factor`, once."""
    optimizer, scheduler = scheduled(
        "plateau",
        f"scheduler.scheduler.mode={mode}",
        "scheduler.scheduler.patience=2",
        "scheduler.scheduler.factor=0.1",
    )
    rates = []
    for value in [worse, better, worse, better, worse, worse, worse]:
        scheduler.step(value)
        rates.append(optimizer.param_groups[0]["lr"])
    # The best epoch is the second: two more are borne, and the third after it reduces the rate.
    assert rates == pytest.approx([LR] * 4 + [0.1 * LR] * 3)


def test_plateau_keeps_the_rate_while_it_improves():
    """Progress, however slow, costs nothing."""
    optimizer, scheduler = scheduled("plateau", "scheduler.scheduler.patience=1")
    for epoch in range(20):
        scheduler.step(1.0 / (1 + epoch))
    assert optimizer.param_groups[0]["lr"] == LR


@pytest.mark.parametrize("name", ["cosine", "one_cycle"])
def test_a_schedule_by_epochs_is_as_long_as_the_training(name):
    """It ends low after `max_epochs` moves, though the training has many more steps."""
    overrides = ["scheduler.interval=epoch", "trainer.max_epochs=10"]
    rates = rates_of(*scheduled(name, *overrides, n_steps=1000), 10)
    assert max(rates) == pytest.approx(LR, rel=0.1)
    assert rates[-1] < 0.05 * LR


@pytest.mark.parametrize("every", [1, 2])
def test_plateau_follows_the_metric_that_is_monitored(tmp_path, every):
    """From the command's config: at validations, and not by the loss."""
    overrides = [
        "data=wine",
        "scheduler=plateau",
        "scheduler.scheduler.patience=0",
        "optimizer.lr=0.01",
    ]
    overrides += ["monitor=validation/accuracy", "mode=max", "callbacks.early_stopping=null"]
    overrides += [f"trainer.check_val_every_n_epoch={every}", "trainer.max_epochs=10"]
    config = check_command_line("train", overrides)
    train(config, tmp_path, quiet=True)
    curves = scalars(tmp_path)
    optimizer = optimizer_at(0.01)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.5, patience=0
    )
    rates = [0.01]
    for _, accuracy in curves["validation/accuracy"]:
        schedule.step(accuracy)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[-1] < 0.01
    found = [rate for _, rate in curves["lr-AdamW"]]
    assert found == pytest.approx([rates[epoch // every] for epoch in range(10)])
