"""The lecture's backpropagation in numbers: its script, and the page that shows what it prints."""

import re
import runpy
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch

from multilayer import MLP, BinaryCrossEntropy

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script() -> dict[str, Any]:
    """The names of the script."""
    return runpy.run_path(str(ROOT / "scripts" / "backpropagation.py"))


def test_the_product_of_the_factors_is_the_gradient(script: dict[str, Any]) -> None:
    """Of each of the nine weights: autograd's, and that of a small change of the weight."""
    chains, gradients = script["factors"](script["forward"]()), script["autograd"]()
    assert chains.keys() == gradients.keys()
    assert len(chains) == 9
    for name, chain in chains.items():
        product = prod(value for _, value in chain)
        assert product == pytest.approx(gradients[name], rel=1e-13)
        assert product == pytest.approx(change_of_loss(script, name), rel=1e-6)


def change_of_loss(script: dict[str, Any], name: str) -> float:
    """The derivative by a weight, from two losses."""
    step, losses = 1e-6, []
    own = script["forward"].__globals__
    before = own["HIDDEN"], own["OUTPUT"]
    row, column = (int(name[1]) - 1, int(name[2])) if name[0] == "w" else (2, int(name[1]))
    for change in (step, -step):
        rows = [list(each) for each in (*before[0], before[1])]
        rows[row][column] += change
        own["HIDDEN"], own["OUTPUT"] = tuple(map(tuple, rows[:2])), tuple(rows[2])
        losses.append(script["forward"]()["J"])
    own["HIDDEN"], own["OUTPUT"] = before
    return (losses[0] - losses[1]) / (2 * step)


def test_the_page_shows_what_the_script_prints(
    script: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """To the last digit."""
    script["main"]()
    page = (ROOT / "docs" / "backpropagation.md").read_text()
    (shown,) = re.findall(r"(?s)```text\n(.*?)```", page)
    assert shown.strip() == capsys.readouterr().out.strip()


def test_the_surface_is_the_loss_of_the_network_that_the_page_names() -> None:
    """And descent at a small rate goes down at every step."""
    picture = runpy.run_path(str(ROOT / "scripts" / "pictures" / "loss_surface.py"))
    x, y = picture["read_data"]()
    path = picture["descend"](picture["START"], 0.3, x, y)
    network = MLP(1, 1, d_hidden=[1], activation="tanh").double()
    losses = []
    for weights in path:
        state = {name: torch.zeros_like(value) for name, value in network.state_dict().items()}
        state["0.linear.weight"][:], state["1.weight"][:] = weights
        network.load_state_dict(state)
        losses.append(BinaryCrossEntropy()(network(x[:, None]).squeeze(1), y).item())
        assert losses[-1] == pytest.approx(float(picture["loss"](*weights, x, y)), rel=1e-12)
    assert losses == sorted(losses, reverse=True)
    assert round(losses[-1], 3) == 0.329
