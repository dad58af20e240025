"""Every optimizer of conf/optimizer against its published rule."""

import json
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
import torch

from multilayer.cli.check import check_command_line
from multilayer.core.config_folder import conf_dir
from multilayer.core.errors import UserError
from multilayer.training.components import make_optimizer, stand_in_optimizer

from ..trained import config_of

# A quadratic J(w) = (w - c)' A (w - c) / 2 with gradient A (w - c); A is positive definite.
A = np.array([[3.0, 0.5, 0.0], [0.5, 2.0, -0.3], [0.0, -0.3, 0.2]])
C = np.array([1.0, -2.0, 0.5])
START = np.array([-1.0, 0.3, 4.0])


def gradient(w):
    """dJ/dw."""
    return A @ (w - C)


def sgd(w, n_steps, *, lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
    """Gradient descent with momentum, as Sutskever et al. 2013 with the rate outside."""
    velocity = None
    for _ in range(n_steps):
        g = gradient(w) + weight_decay * w
        velocity = g if velocity is None else momentum * velocity + (1 - dampening) * g
        step = g + momentum * velocity if nesterov else velocity
        w = w - lr * (step if momentum else g)
    return w


def adam(w, n_steps, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False):
    """Kingma and Ba 2015, algorithm 1; weight decay is added to the gradient."""
    m = v = largest = np.zeros_like(w)
    for t in range(1, n_steps + 1):
        g = gradient(w) + weight_decay * w
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        largest = np.maximum(largest, v)
        m_hat = m / (1 - betas[0] ** t)
        v_hat = (largest if amsgrad else v) / (1 - betas[1] ** t)
        w = w - lr * m_hat / (np.sqrt(v_hat) + eps)
    return w


def adamw(w, n_steps, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    """Loshchilov and Hutter 2019, algorithm 2: the decay is apart from the gradient."""
    m = v = np.zeros_like(w)
    for t in range(1, n_steps + 1):
        g = gradient(w)
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        w = w - lr * m_hat / (np.sqrt(v_hat) + eps) - lr * weight_decay * w
    return w


def adadelta(w, n_steps, *, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0.0):
    """Zeiler 2012, algorithm 1."""
    of_gradients = of_steps = np.zeros_like(w)
    for _ in range(n_steps):
        g = gradient(w) + weight_decay * w
        of_gradients = rho * of_gradients + (1 - rho) * g**2
        step = np.sqrt(of_steps + eps) / np.sqrt(of_gradients + eps) * g
        of_steps = rho * of_steps + (1 - rho) * step**2
        w = w - lr * step
    return w


def adagrad(
    w, n_steps, *, lr, eps=1e-10, lr_decay=0.0, weight_decay=0.0, initial_accumulator_value=0.0
):
    """Duchi et al. 2011, with diagonal matrices."""
    total = np.full_like(w, initial_accumulator_value)
    for t in range(n_steps):
        g = gradient(w) + weight_decay * w
        total = total + g**2
        w = w - lr / (1 + t * lr_decay) * g / (np.sqrt(total) + eps)
    return w


def rmsprop(
    w, n_steps, *, lr, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False
):
    """Hinton's lecture 6e; `centered` as Graves 2013."""
    square = mean = velocity = np.zeros_like(w)
    for _ in range(n_steps):
        g = gradient(w) + weight_decay * w
        square = alpha * square + (1 - alpha) * g**2
        mean = alpha * mean + (1 - alpha) * g
        variance = square - mean**2 if centered else square
        velocity = momentum * velocity + g / (np.sqrt(variance) + eps)
        w = w - lr * velocity
    return w


RULES = {
    "sgd": (sgd, torch.optim.SGD),
    "adam": (adam, torch.optim.Adam),
    "adamw": (adamw, torch.optim.AdamW),
    "adadelta": (adadelta, torch.optim.Adadelta),
    "adagrad": (adagrad, torch.optim.Adagrad),
    "rmsprop": (rmsprop, torch.optim.RMSprop),
}

CASES = [
    ("sgd", {"lr": 0.1}),
    ("sgd", {"lr": 0.1, "weight_decay": 0.2}),
    ("sgd", {"lr": 0.05, "momentum": 0.9}),
    ("sgd", {"lr": 0.05, "momentum": 0.9, "dampening": 0.3}),
    ("sgd", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("adam", {"lr": 0.01}),
    ("adam", {"lr": 0.1, "betas": [0.5, 0.8], "eps": 0.1, "weight_decay": 0.3}),
    ("adam", {"lr": 0.1, "betas": [0.5, 0.6], "amsgrad": True}),
    ("adamw", {"lr": 0.01}),
    ("adamw", {"lr": 0.1, "betas": [0.5, 0.8], "eps": 0.1, "weight_decay": 0.3}),
    ("adadelta", {}),
    ("adadelta", {"lr": 0.5, "rho": 0.5, "eps": 0.01, "weight_decay": 0.2}),
    ("adagrad", {"lr": 0.1}),
    (
        "adagrad",
        {"lr": 0.1, "lr_decay": 0.5, "weight_decay": 0.2, "initial_accumulator_value": 0.3},
    ),
    ("rmsprop", {"lr": 0.01}),
    ("rmsprop", {"lr": 0.01, "alpha": 0.5, "eps": 0.1, "weight_decay": 0.2, "momentum": 0.5}),
    ("rmsprop", {"lr": 0.01, "alpha": 0.5, "centered": True}),
]


FUSED = ("sgd", "adam", "adamw")
"""Those that take all weights in one pass, by default."""


def composed(name, *overrides, **settings):
    """What `optimizer=NAME optimizer.lr=...` gives: a factory that takes the parameters."""
    own = [f"optimizer.{key}={value}" for key, value in settings.items()]
    config = check_command_line("train", [f"optimizer={name}", *own, *overrides])
    return make_optimizer(config)


def minimised(factory, n_steps):
    """The weights after so many steps on the quadratic, its gradient taken by autograd."""
    a, c = torch.from_numpy(A), torch.from_numpy(C)
    w = torch.tensor(START, requires_grad=True)
    optimizer = factory([w])
    for _ in range(n_steps):
        optimizer.zero_grad()
        ((w - c) @ a @ (w - c) / 2).backward()
        optimizer.step()
    return w.detach().numpy()


def test_every_optimizer_has_its_rule():
    """A new file in conf/optimizer needs its update rule here."""
    files = {path.stem for path in (conf_dir() / "optimizer").glob("*.yaml")}
    assert files == {*RULES, "default"}
    assert {name for name, _ in CASES} == set(RULES)


def test_the_default_is_adamw_with_its_own_numbers():
    """All but the rate and the weight decay is as in the file of AdamW."""
    default, adamw = (config_of(f"optimizer={name}")["optimizer"] for name in ("default", "adamw"))
    own = {name: value for name, value in default.items() if value != adamw[name]}
    assert own == {"lr": 0.003, "weight_decay": 0.1}
    assert default.keys() == adamw.keys()


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_steps_are_the_published_rule_s(name, settings):
    """One and several steps on a quadratic equal the rule written in numpy."""
    rule, _ = RULES[name]
    factory = composed(name, **settings)
    for n_steps in (1, 2, 10):
        written = rule(START, n_steps, **settings)
        np.testing.assert_allclose(minimised(factory, n_steps), written, rtol=1e-9)


@pytest.mark.parametrize("name", RULES)
def test_optimizer_is_torch_s_own(name):
    """The config names torch's class, and all but the rate is as torch has it."""
    _, torchs = RULES[name]
    parameters = [torch.zeros(1, requires_grad=True)]
    optimizer = composed(name)(parameters)
    assert type(optimizer) is torchs
    usual = torchs(parameters, lr=optimizer.defaults["lr"]).defaults
    given = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in optimizer.defaults.items()
    }
    assert given == usual | ({"fused": True} if name in FUSED else {})


@pytest.mark.parametrize("name", FUSED)
def test_float16_is_clipped_before_the_optimizer_sees_it(name):
    """Lightning refuses to clip where a fused optimizer would take the scale back only later."""
    clip = "trainer.gradient_clip_val=1"
    for overrides, fused in [
        (["trainer.precision=16-mixed", clip], False),
        (["trainer.precision=16-mixed"], True),
        (["trainer.precision=bf16-mixed", clip], True),
    ]:
        optimizer = composed(name, *overrides)([torch.zeros(1, requires_grad=True)])
        assert optimizer.defaults["fused"] is fused


@pytest.mark.parametrize("name", FUSED)
def test_fused_may_be_said(name):
    """Either way."""
    for fused in (True, False):
        optimizer = composed(name, fused=fused)([torch.zeros(1, requires_grad=True)])
        assert optimizer.defaults["fused"] is fused


def test_rate_of_zero_moves_nothing():
    """A rate of 0 is a rate: `optimizer.lr=0` reaches torch and the weights stay."""
    np.testing.assert_array_equal(minimised(composed("adam", lr=0.0), 3), START)


def choices(group):
    """The names of the files of a group of conf/."""
    return [path.stem for path in (conf_dir() / group).glob("*.yaml")]


STAND_INS = """
import json, sys, warnings
import torch
from multilayer.training.components import make_optimizer, make_scheduler, stand_in_optimizer

warnings.simplefilter("error")

def rates(optimizer, config):
    "Of some steps of the schedule, which may follow a metric, with the momentum that some move."
    scheduler, found = make_scheduler(config, n_steps=8)(optimizer), []
    for _ in range(6):
        group = optimizer.param_groups[0]
        found.append([group["lr"], group.get("momentum"), group.get("betas")])
        scheduler.step(*[1.0] * hasattr(scheduler, "patience"))
    return found

def facts(optimizer, config):
    name, defaults = type(optimizer).__name__, dict(optimizer.defaults)
    group = {key: each for key, each in optimizer.param_groups[0].items() if key != "params"}
    assert isinstance(optimizer, torch.optim.Optimizer)
    return name, type(optimizer).__module__, defaults, group, rates(optimizer, config)

configs = json.load(sys.stdin)
found = [facts(stand_in_optimizer(config), config) for config in configs]
assert "torch._dynamo" not in sys.modules
warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
for config, each in zip(configs, found):
    real = make_optimizer(config)([torch.zeros(1)])
    assert each == facts(real, config), (each, facts(real, config))
print(len(found))
"""


def test_a_stand_in_optimizer_does_not_import_dynamo():
    """Every optimizer with every schedule: the class, its defaults and rates are the real one's."""
    rest = [f"{group}={name}" for group in ("optimizer", "scheduler") for name in choices(group)]
    composed_once = {word: config_of(word) for word in rest}
    configs = [
        config_of() | {key: composed_once[f"{key}={name}"][key] for key, name in chosen.items()}
        for optimizer, scheduler in product(choices("optimizer"), choices("scheduler"))
        for chosen in [{"optimizer": optimizer, "scheduler": scheduler}]
    ]
    assert len(configs) >= 36
    ended = subprocess.run(
        [sys.executable, "-c", STAND_INS],
        input=json.dumps(configs),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout == f"{len(configs)}\n", ended.stderr


def test_a_stand_in_has_the_parameters_that_are_given_and_leaves_torchs_class_as_it_was():
    """An optimizer of torch's that is made later is the real one."""
    weights = [torch.ones(2), torch.ones(3)]
    made = stand_in_optimizer(config_of("optimizer=adagrad"), weights)
    assert made.param_groups[0]["params"] == weights
    assert type(made) is not torch.optim.Adagrad
    assert isinstance(made, torch.optim.Adagrad)
    assert type(make_optimizer(config_of("optimizer=adagrad"))(weights)) is torch.optim.Adagrad
    assert not hasattr(torch.optim.Adagrad, "_opt_called")


class Own(torch.optim.SGD):
    """A user's class, which is taken as it is."""


def own_function(parameters, lr):
    """A user's function that makes one."""
    return Own(parameters, lr=lr)


@pytest.mark.parametrize("target", ["Own", "own_function"])
def test_a_user_s_optimizer_stands_for_itself(target):
    """It may look at its class."""
    config = config_of()
    config["optimizer"] = {"_target_": f"{__name__}.{target}", "_partial_": True, "lr": 0.1}
    assert type(stand_in_optimizer(config)) is Own


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": -1.0}, r"^optimizer: Invalid learning rate: -1\.0$"),
        ({"betas": [0.9, 1.5]}, r"^optimizer: Invalid beta parameter at index 1: 1\.5$"),
        ({"weight_decay": "x"}, r"^optimizer: '<=' not supported .*; given were lr=0\.001"),
    ],
)
def test_what_torch_refuses_a_stand_in_refuses(values, message):
    """By torch's own constructor, and in its words."""
    config = config_of("optimizer=adam")
    config["optimizer"].update(values)
    with pytest.raises(UserError, match=message):
        stand_in_optimizer(config)
