"""Losses against written-out formulas, scikit-learn and finite differences."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from multilayer.core.errors import UserError
from multilayer.nn.losses import (
    _TASK_OF_LOSS,
    AutoLoss,
    BinaryCrossEntropy,
    CrossEntropy,
    _check_classes,
    check_outputs,
    loss_for_task,
    total_weight,
)
from multilayer.nn.quantiles import QuantileLoss

SMOOTHINGS = [0.0, 0.1, 0.6]
BINARY_WEIGHTS = [None, [1.0, 1.0], [1.0, 3.0], [0.5, 0.0]]
CLASS_WEIGHTS = [None, [1.0, 1.0, 1.0, 1.0], [1.0, 3.0, 0.5, 0.0]]


def binary_rows(n_rows=40):
    """Logits `(B,)` in float64 and targets `(B,)`, int64."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(n_rows, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, 2, (n_rows,), generator=generator)


def class_rows(n_rows=40, n_classes=4):
    """Logits `(B, n_classes)` in float64 and targets `(B,)`, int64."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(n_rows, n_classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, n_classes, (n_rows,), generator=generator)


def written_cross_entropy(logits, target, smoothing=0.0, weights=None):
    """- sum_i sum_c w_c q_ic log p_ic / sum_i w_(y_i), q the smoothed target, in numpy."""
    logits, target = logits.numpy(), target.numpy()
    n_classes = logits.shape[1]
    weights = np.ones(n_classes) if weights is None else np.array(weights)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    q = (1 - smoothing) * np.eye(n_classes)[target] + smoothing / n_classes
    return -(weights * q * np.log(p)).sum() / weights[target].sum()


def test_binary_cross_entropy_is_the_lecture_s_formula():
    """-mean(y log p + (1 - y) log(1 - p)) with p = sigmoid(z)."""
    z, y = binary_rows()
    p = 1 / (1 + np.exp(-z.numpy()))
    written = -np.mean(y.numpy() * np.log(p) + (1 - y.numpy()) * np.log(1 - p))
    assert BinaryCrossEntropy()(z, y).item() == pytest.approx(written, rel=1e-12)
    assert written == pytest.approx(log_loss(y, p), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.bool, torch.float32])
def test_binary_target_may_have_any_dtype(dtype):
    """0 and 1 mean the same as integers, booleans and floats, weighted or not."""
    z, y = binary_rows()
    for weights in (None, [1.0, 3.0]):
        loss = BinaryCrossEntropy(class_weights=weights)
        assert loss(z, y.to(dtype)).item() == loss(z, y).item()


def test_binary_smoothing_moves_the_target_towards_one_half():
    """With smoothing e the target 1 becomes 1 - e/2 and the target 0 becomes e/2."""
    z, y = binary_rows()
    smoothed = torch.where(y == 1, 0.9, 0.1).double()
    expected = F.binary_cross_entropy_with_logits(z, smoothed).item()
    assert BinaryCrossEntropy(label_smoothing=0.2)(z, y).item() == pytest.approx(expected)


@pytest.mark.parametrize("weights", [[1.0, 3.0], [0.2, 0.1]])
def test_binary_weights_give_a_weighted_mean(weights):
    """Each row counts with the weight of its class, as scikit-learn's `sample_weight`."""
    z, y = binary_rows()
    expected = log_loss(y, z.sigmoid(), sample_weight=np.array(weights)[y])
    loss = BinaryCrossEntropy(class_weights=weights)(z, y).item()
    assert loss == pytest.approx(expected, rel=1e-6)  # the weights are float32


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("weights", BINARY_WEIGHTS)
def test_binary_cross_entropy_is_that_of_two_classes(weights, smoothing):
    """A logit z is a softmax over the logits 0 and z: both losses agree, weighted and smoothed."""
    z, y = binary_rows()
    two = torch.stack([torch.zeros_like(z), z], dim=1)  # (B,) -> (B, 2)
    binary = BinaryCrossEntropy(label_smoothing=smoothing, class_weights=weights).double()
    softmax = CrossEntropy(label_smoothing=smoothing, class_weights=weights).double()
    assert binary(z, y).item() == pytest.approx(softmax(two, y).item(), rel=1e-6)
    assert binary(z, y).item() == pytest.approx(
        written_cross_entropy(two, y, smoothing, weights), rel=1e-6
    )


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("weights", CLASS_WEIGHTS)
def test_cross_entropy_is_the_written_formula(weights, smoothing):
    """The smoothed and weighted sum over classes, divided by the weights of the targets."""
    logits, target = class_rows()
    loss = CrossEntropy(label_smoothing=smoothing, class_weights=weights).double()
    expected = written_cross_entropy(logits, target, smoothing, weights)
    assert loss(logits, target).item() == pytest.approx(expected, rel=1e-6)


def test_cross_entropy_is_scikit_learn_s():
    """Unweighted and weighted, the loss is `sklearn.metrics.log_loss` of the probabilities."""
    logits, target = class_rows()
    p = logits.softmax(1)
    assert CrossEntropy()(logits, target).item() == pytest.approx(log_loss(target, p), rel=1e-9)
    weights = [1.0, 3.0, 0.5, 2.0]
    expected = log_loss(target, p, sample_weight=np.array(weights)[target])
    loss = CrossEntropy(class_weights=weights).double()
    assert loss(logits, target).item() == pytest.approx(expected, rel=1e-9)


def test_even_guess_costs_the_logarithm_of_the_number_of_classes():
    """Equal logits cost log 2 and log C: what an untrained network starts from."""
    y = torch.tensor([0, 1, 1])
    assert BinaryCrossEntropy()(torch.zeros(3), y).item() == pytest.approx(math.log(2))
    assert CrossEntropy()(torch.zeros(3, 10), y).item() == pytest.approx(math.log(10))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [1.0, 3.0]])
def test_extreme_logits_stay_finite(weights, smoothing):
    """At logits of 10,000 either way the loss is linear and its gradient finite."""
    y = torch.tensor([0, 1, 0, 1])
    z = torch.tensor([1e4, -1e4, -1e4, 1e4], requires_grad=True)
    binary = BinaryCrossEntropy(label_smoothing=smoothing, class_weights=weights)
    two = torch.stack([torch.zeros_like(z), z], dim=1)  # (B,) -> (B, 2)
    softmax = CrossEntropy(label_smoothing=smoothing, class_weights=weights)
    for loss in (binary(z, y), softmax(two, y)):
        (gradient,) = torch.autograd.grad(loss, z, retain_graph=True)
        assert loss.isfinite()
        assert gradient.isfinite().all()
    if smoothing == 0:
        # The wrong half of the rows costs |z| each, the right half nothing.
        assert binary(z, y).item() == pytest.approx(5e3, rel=1e-6)


def test_gradient_by_the_logit_is_prediction_minus_target():
    """dJ/dz_i = (p_i - y_i) / n, the chain rule's short end."""
    z, y = binary_rows()
    z.requires_grad_()
    BinaryCrossEntropy()(z, y).backward()
    torch.testing.assert_close(z.grad, (z.detach().sigmoid() - y) / len(y))


def test_gradients_are_those_of_finite_differences():
    """Smoothed and weighted losses backpropagate rightly, in float64."""
    z, y = binary_rows(6)
    binary = BinaryCrossEntropy(label_smoothing=0.1, class_weights=[1.0, 3.0]).double()
    assert torch.autograd.gradcheck(lambda logits: binary(logits, y), z.requires_grad_())
    logits, target = class_rows(6)
    softmax = CrossEntropy(label_smoothing=0.1, class_weights=[1.0, 3.0, 0.5, 0.0]).double()
    assert torch.autograd.gradcheck(lambda x: softmax(x, target), logits.requires_grad_())


@pytest.mark.parametrize("loss", [BinaryCrossEntropy, CrossEntropy])
def test_weights_move_with_the_loss(loss):
    """The weights are a buffer: `.to(...)` takes them along."""
    moved = loss(class_weights=[1.0, 3.0]).to(torch.float64)
    assert moved.weight.dtype == torch.float64
    assert moved.weight.tolist() == [1.0, 3.0]
    assert list(moved.state_dict()) == ["weight"]


@pytest.mark.parametrize(
    ("task", "expected"),
    [("binary", BinaryCrossEntropy), ("multiclass", CrossEntropy), ("regression", nn.MSELoss)],
)
def test_auto_loss_follows_the_task(task, expected):
    """Each task has its usual loss."""
    assert type(loss_for_task(AutoLoss(), task)) is expected


@pytest.mark.parametrize(
    ("task", "loss"), [("binary", BinaryCrossEntropy), ("multiclass", CrossEntropy)]
)
def test_auto_loss_hands_its_arguments_on(task, loss):
    """Smoothing and weights reach the cross entropy of the task."""
    arguments = {"label_smoothing": 0.2, "class_weights": [1.0, 3.0]}
    z, y = binary_rows()
    logits = z if task == "binary" else torch.stack([-z, z], dim=1)  # (B,) -> (B, 2)
    automatic = loss_for_task(AutoLoss(**arguments), task).double()
    assert automatic(logits, y).item() == loss(**arguments).double()(logits, y).item()


def test_auto_loss_of_a_regression_needs_no_classes():
    """Smoothing and weights are of no account where there are no classes."""
    loss = loss_for_task(AutoLoss(label_smoothing=0.2, class_weights=[1.0, 3.0]), "regression")
    assert type(loss) is nn.MSELoss


USUAL = {"binary": BinaryCrossEntropy, "multiclass": CrossEntropy, "regression": nn.MSELoss}


@pytest.mark.parametrize("task", USUAL)
@pytest.mark.parametrize("loss", _TASK_OF_LOSS)
def test_loss_must_fit_the_task(loss, task):
    """A loss that fits is passed on as it is; a misfit is refused, with one that would fit."""
    instance = loss(**({"levels": [0.5]} if loss is QuantileLoss else {}))
    if task == _TASK_OF_LOSS[loss]:
        assert loss_for_task(instance, task) is instance
        return
    with pytest.raises(ValueError, match=loss.__name__) as error:
        loss_for_task(instance, task)
    assert task in str(error.value)
    assert USUAL[task].__name__ in str(error.value)
    assert "loss=auto" in str(error.value)


@pytest.mark.parametrize("task", USUAL)
def test_loss_of_the_user_s_own_fits_any_task(task):
    """What is not listed is the user's say."""

    class OwnLoss(nn.Module):
        pass

    loss = OwnLoss()
    assert loss_for_task(loss, task) is loss


@pytest.mark.parametrize("loss", [BinaryCrossEntropy, CrossEntropy, AutoLoss])
@pytest.mark.parametrize("smoothing", [-0.1, 1.0, 2.0, math.nan])
def test_wrong_smoothing_is_named(loss, smoothing):
    """Smoothing is a share in [0, 1)."""
    with pytest.raises(ValueError, match=f"label_smoothing .* got {smoothing}"):
        loss(label_smoothing=smoothing)


@pytest.mark.parametrize("loss", [BinaryCrossEntropy, CrossEntropy])
@pytest.mark.parametrize(
    "weights", [[0.0, 0.0], [-1.0, 2.0], [math.nan, 1.0], [1.0, math.nan], [math.inf, 1.0]]
)
def test_wrong_weights_are_named(loss, weights):
    """Weights are finite, at least 0 and not all 0: else the loss would be NaN or negative."""
    with pytest.raises(ValueError, match="class_weights must be"):
        loss(class_weights=weights)


@pytest.mark.parametrize("weights", [[], [1.0], [1.0, 2.0, 3.0]])
def test_binary_needs_two_weights(weights):
    """The message says how many were given."""
    with pytest.raises(ValueError, match=f"class_weights must hold 2 numbers, got {len(weights)}"):
        BinaryCrossEntropy(class_weights=weights)


@pytest.mark.parametrize("loss", [CrossEntropy, BinaryCrossEntropy])
def test_whole_numbers_are_weights_too(loss):
    """As a config or a command line writes them: `[1,3]` is `[1.0,3.0]`."""
    z, y = class_rows(n_classes=2) if loss is CrossEntropy else binary_rows()
    z = z.float()
    assert loss(class_weights=[1, 3])(z, y) == loss(class_weights=[1.0, 3.0])(z, y)


@pytest.mark.parametrize("loss", [CrossEntropy, AutoLoss])
def test_weights_must_be_as_many_as_the_classes(loss):
    """One too few is refused once the classes are known, before a training starts."""
    weighted = loss(class_weights=[1.0, 3.0, 2.0])
    for n_classes in (None, 3):
        assert len(loss_for_task(weighted, "multiclass", n_classes).weight) == 3
    with pytest.raises(ValueError, match="class_weights must hold 4 numbers, got 3"):
        loss_for_task(weighted, "multiclass", 4)


def test_the_weight_of_a_minibatch_is_what_its_mean_was_divided_by():
    """Its rows, or the weights of their classes; for one network or for each of a stack."""
    target = torch.tensor([[0, 1, 1, 0, 1], [0, 0, 0, 0, 1]])
    for loss in (nn.MSELoss(), CrossEntropy(), BinaryCrossEntropy(), nn.BCEWithLogitsLoss()):
        assert total_weight(loss, target).tolist() == [5, 5]
        assert total_weight(loss, target[0]).item() == 5
    for loss in (
        CrossEntropy(class_weights=[1.0, 10.0]),
        BinaryCrossEntropy(class_weights=[1.0, 10.0]),
        nn.CrossEntropyLoss(torch.tensor([1.0, 10.0])),
    ):
        assert total_weight(loss, target).tolist() == [32, 14]
        assert total_weight(loss, target[0].float()).item() == 32


ROWS, TWO = torch.zeros(4), torch.zeros(4, 2)


@pytest.mark.parametrize(
    ("task", "output", "target", "message"),
    [
        ("regression", ROWS, ROWS, None),
        ("binary", ROWS, ROWS, None),
        ("binary", ROWS, ROWS.long(), None),
        ("multiclass", TWO, ROWS.long(), None),
        ("multiclass", TWO, ROWS, r"use target\.long\(\)"),
        ("regression", ROWS, ROWS[:, None], r"use target\.squeeze\(1\)"),
        ("regression", ROWS, TWO, "one value a row; where one of two is .*WeightedLoss"),
        ("regression", ROWS, torch.tensor(0.0), "one value a row; got"),
        ("multiclass", ROWS, ROWS.long(), "single one is for BinaryModule"),
        ("binary", TWO, ROWS, "one output a row; several are for MulticlassModule"),
        ("regression", TWO, ROWS, "one output a row; got"),
        ("regression", ROWS[:3], ROWS, "as many rows; got"),
        ("multiclass", TWO[:3], ROWS.long(), "as many rows; got"),
    ],
)
def test_outputs_and_targets_that_do_not_fit_are_told(task, output, target, message):
    """With the shapes, before torch broadcasts them."""
    if message is None:
        check_outputs(task, output, target)
        return
    with pytest.raises(UserError, match=f"^{task}: .*{message}"):
        check_outputs(task, output, target)


@pytest.mark.parametrize(("value", "n_classes"), [(3, 3), (-1, 3), (0.5, 2)])
def test_a_target_that_is_no_class_is_named(value, n_classes):
    """The value, though others before it are classes."""
    with pytest.raises(UserError, match=f"holds {value}, but the {n_classes} classes are .* to"):
        _check_classes(torch.tensor([0, 1, value, 1]), n_classes)
    _check_classes(torch.tensor([0.0, 1.0]), n_classes)
