"""The metrics of each task against scikit-learn, and those of a stack against torchmetrics."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    log_loss,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)
from torchmetrics import MeanAbsoluteError, MeanSquaredError, MetricCollection, R2Score
from torchmetrics.classification import (
    BinaryAccuracy,
    BinaryAUROC,
    BinaryCalibrationError,
    BinaryF1Score,
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassCalibrationError,
    MulticlassF1Score,
)

from multilayer.core.metric_names import MORE_IS_BETTER, NEEDED
from multilayer.nn import metrics
from multilayer.nn.metrics import (
    HEADLINE,
    METRICS,
    _f1,
    cross_entropy,
    is_defined,
    metrics_of,
)

N_ROWS = 300


def computed(task, predictions, target):
    """The metrics of numpy arrays, as numbers."""
    values = metrics_of(task, torch.from_numpy(predictions), torch.from_numpy(target))
    return {name: float(value) for name, value in values.items()}


def calibration_error(confidence, right, n_bins=15):
    """Guo et al. 2017, equation 3: sum over bins of n_b / n |accuracy_b - confidence_b|."""
    edges = np.linspace(0, 1, n_bins + 1)
    total = 0.0
    for low, high in pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            total += inside.mean() * gap
    return total


def binary_rows():
    """Probabilities of class 1 that tell something about the target, but overstate it."""
    rng = np.random.default_rng(0)
    target = rng.integers(0, 2, N_ROWS)
    logits = 2 * (target - 0.5) + 2 * rng.standard_normal(N_ROWS)
    return (1 / (1 + np.exp(-2 * logits))).astype(np.float32), target


def class_rows(n_classes):
    """Probabilities `(N, n_classes)`, and a target whose classes have unequal shares."""
    rng = np.random.default_rng(0)
    target = rng.choice(
        n_classes, N_ROWS, p=np.arange(1, n_classes + 1) / sum(range(n_classes + 1))
    )
    logits = 2 * np.eye(n_classes)[target] + 1.5 * rng.standard_normal((N_ROWS, n_classes))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return p.astype(np.float32), target


def regression_rows(offset=0.0, deviation=1.0):
    """Values and a target around `offset`."""
    rng = np.random.default_rng(0)
    target = offset + deviation * rng.standard_normal(N_ROWS)
    values = target + 0.5 * deviation * rng.standard_normal(N_ROWS)
    return values.astype(np.float32), target.astype(np.float32)


def test_binary_metrics_are_scikit_learn_s():
    """Accuracy and F1 at a half, and the area under the ROC curve."""
    p, y = binary_rows()
    values = computed("binary", p, y)
    assert values["accuracy"] == pytest.approx(accuracy_score(y, p > 0.5), abs=1e-6)
    assert values["f1"] == pytest.approx(f1_score(y, p > 0.5), abs=1e-6)
    assert values["auroc"] == pytest.approx(roc_auc_score(y, p), abs=1e-6)


def test_binary_calibration_compares_the_probability_of_class_1_with_its_share():
    """Over 15 bins of the probability of class 1."""
    p, y = binary_rows()
    values = computed("binary", p, y)
    assert values["calibration_error"] == pytest.approx(calibration_error(p, y), abs=1e-5)


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_multiclass_metrics_are_scikit_learn_s(n_classes):
    """Accuracy over the rows; F1 and the area under the ROC curve as means over the classes."""
    p, y = class_rows(n_classes)
    values = computed("multiclass", p, y)
    assert values["accuracy"] == pytest.approx(accuracy_score(y, p.argmax(1)), abs=1e-6)
    assert values["f1"] == pytest.approx(f1_score(y, p.argmax(1), average="macro"), abs=1e-6)
    area = (
        roc_auc_score(y, p[:, 1])
        if n_classes == 2
        else roc_auc_score(y, p, multi_class="ovr", average="macro")
    )
    assert values["auroc"] == pytest.approx(area, abs=1e-6)


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_multiclass_calibration_compares_confidence_with_accuracy(n_classes):
    """Over 15 bins of the largest probability, as in Guo et al. 2017."""
    p, y = class_rows(n_classes)
    values = computed("multiclass", p, y)
    expected = calibration_error(p.max(1), p.argmax(1) == y)
    assert values["calibration_error"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("n_outputs", [1, 2, 5])
def test_cross_entropy_is_scikit_learn_s_log_loss(n_outputs):
    generator = torch.Generator().manual_seed(0)
    n_classes = max(2, n_outputs)
    outputs = 3 * torch.randn(3, 50, n_outputs, generator=generator, dtype=torch.float64)
    outputs = outputs.squeeze(2)
    target = torch.randint(n_classes, (3, 50), generator=generator)
    probabilities = outputs.sigmoid() if n_outputs == 1 else outputs.softmax(dim=-1)
    found = cross_entropy(outputs, target)
    for k in range(3):
        wanted = log_loss(target[k], probabilities[k].numpy(), labels=range(n_classes))
        assert found[k].item() == pytest.approx(wanted, rel=1e-12)
        assert cross_entropy(outputs[k], target[k]).item() == pytest.approx(wanted, rel=1e-12)


def test_a_class_that_is_never_seen_does_not_count_against_f1():
    """The mean is over the classes that the rows or the predictions hold, as scikit-learn's."""
    p, y = class_rows(3)
    unseen = np.concatenate([p, np.zeros((N_ROWS, 1), dtype=np.float32)], axis=1)
    expected = f1_score(y, p.argmax(1), average="macro")
    assert computed("multiclass", unseen, y)["f1"] == pytest.approx(expected, abs=1e-6)


def test_perfect_predictions_have_perfect_metrics():
    """Certain and right: every score is 1 and no calibration error is left."""
    y = np.arange(6) % 3
    values = computed("multiclass", np.eye(3, dtype=np.float32)[y], y)
    assert values == {"accuracy": 1, "f1": 1, "auroc": 1, "calibration_error": 0}
    values = computed("binary", (y == 1).astype(np.float32), (y == 1).astype(np.int64))
    assert values == {"accuracy": 1, "f1": 1, "auroc": 1, "calibration_error": 0}


# Without an offset; years; house prices; sensor counts with a large offset.
@pytest.mark.parametrize(
    ("offset", "deviation"), [(0, 1), (2000, 10), (300_000, 100_000), (10_000, 1)]
)
def test_regression_metrics_are_scikit_learn_s(offset, deviation):
    """In the target's units, however far from 0 the target lies."""
    values, y = regression_rows(offset, deviation)
    metrics = computed("regression", values, y)
    wide, wide_y = values.astype(np.float64), y.astype(np.float64)
    assert metrics["rmse"] == pytest.approx(root_mean_squared_error(wide_y, wide), rel=1e-4)
    assert metrics["mae"] == pytest.approx(mean_absolute_error(wide_y, wide), rel=1e-4)
    assert metrics["r2"] == pytest.approx(r2_score(wide_y, wide), abs=1e-4)


@pytest.mark.parametrize("n_rows", [1, 5])
@pytest.mark.parametrize("offset", [0, 2])
def test_r_squared_of_targets_that_do_not_differ_is_undefined(offset, n_rows):
    """Of one row too; the errors are what they are."""
    y = np.full(n_rows, 0.1)
    metrics = computed("regression", y + offset, y)
    assert np.isnan(metrics["r2"])
    assert (metrics["mae"], metrics["rmse"]) == (pytest.approx(offset), pytest.approx(offset))


@pytest.mark.parametrize("unit", [1e-300, 1e-150, 1e-30, 1.0, 1e25, 1e200, 1e306])
def test_regression_metrics_follow_the_unit_of_the_target(unit):
    """Neither sums nor squares overflow or vanish."""
    values, y = regression_rows(offset=10.0)
    values, y = values.astype(np.float64), y.astype(np.float64)
    metrics, scaled = (
        computed("regression", values, y),
        computed("regression", unit * values, unit * y),
    )
    assert scaled["r2"] == pytest.approx(metrics["r2"], rel=1e-12)
    for name in ("mae", "rmse"):
        assert scaled[name] == pytest.approx(unit * metrics[name], rel=1e-12)


def test_auroc_is_the_mean_over_the_classes_that_are_there():
    """Of three classes, one of which has no row: the others are told apart perfectly."""
    p = np.eye(3, dtype=np.float32)[[0, 1, 0, 1]]
    metrics = computed("multiclass", p, np.array([0, 1, 0, 1]))
    assert (metrics["accuracy"], metrics["auroc"], metrics["f1"]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("task", "target", "undefined"),
    [
        ("binary", [0, 1, 1], set()),
        ("binary", [1, 1, 1], {"auroc"}),
        ("binary", [0, 0], {"auroc", "f1"}),
        ("binary", [0], {"auroc", "f1"}),
        ("multiclass", [0, 2], set()),
        ("multiclass", [2, 2, 2], {"auroc"}),
        ("multiclass", [1], {"auroc"}),
        ("regression", [0.5, 1.5], set()),
        ("regression", [0.1, 0.1, 0.1], {"r2"}),
        ("regression", [3.0], {"r2"}),
    ],
)
def test_what_rows_leave_undefined_is_nan(task, target, undefined):
    """In a stack too; the other metrics of these perfect predictions are perfect."""
    target = torch.tensor(target)
    p = {"binary": target.float(), "regression": target}.get(task)
    p = torch.eye(3)[target] if p is None else p
    stacked = metrics_of(task, torch.stack([p, p]), torch.stack([target, target]))
    for name, values in stacked.items():
        assert values.isnan().all() == (name in undefined), name
        assert is_defined(name, task, target, 3) == (name not in undefined), name
        assert NEEDED.keys() >= undefined
        if name not in undefined:
            assert values.tolist() == [1.0 if name in MORE_IS_BETTER else 0.0] * 2


@pytest.mark.parametrize("task", METRICS)
def test_predictions_that_are_no_numbers_have_no_metrics(task):
    """Rather than those of class 0; another member of the stack has its own."""
    target = torch.tensor([[0, 1, 0, 1]] * 2)
    p = torch.rand(2, 4, 2).softmax(dim=2) if task == "multiclass" else torch.rand(2, 4)
    p[0, 1] = torch.nan
    for name, values in metrics_of(task, p, target).items():
        assert values.isnan().tolist() == [True, False], name


@pytest.mark.parametrize("task", METRICS)
def test_names_are_those_that_are_computed(task):
    """The user's `monitor` is checked by them, and a short table shows one of them."""
    predictions = torch.rand(6, 3).softmax(dim=1) if task == "multiclass" else torch.rand(6)
    values = metrics_of(task, predictions, torch.tensor([0, 1, 1, 0, 1, 0]))
    from_logits = () if task == "regression" else ("cross_entropy",)
    assert (*from_logits, *values) == METRICS[task]
    assert HEADLINE[task] in values


def of_torchmetrics(task, n_classes):
    """The same metrics from torchmetrics."""
    metrics = {
        "binary": {
            "accuracy": BinaryAccuracy(),
            "f1": BinaryF1Score(),
            "auroc": BinaryAUROC(),
            "calibration_error": BinaryCalibrationError(),
        },
        "multiclass": {
            "accuracy": MulticlassAccuracy(n_classes, average="micro"),
            "f1": MulticlassF1Score(n_classes, average="macro"),
            "auroc": MulticlassAUROC(n_classes),
            "calibration_error": MulticlassCalibrationError(n_classes),
        },
        "regression": {
            "mae": MeanAbsoluteError(),
            "r2": R2Score(),
            "rmse": MeanSquaredError(squared=False),
        },
    }
    return MetricCollection(metrics[task])


def check_members(task, predictions, target, n_classes=2):
    """Every metric of every member of a stack agrees with torchmetrics."""
    stacked = metrics_of(task, predictions, target)
    for k in range(len(predictions)):
        metrics = of_torchmetrics(task, n_classes).set_dtype(torch.float64)
        metrics.update(predictions[k].double(), target[k])
        expected = metrics.compute()
        assert stacked.keys() == expected.keys()
        for name, value in expected.items():
            assert float(stacked[name][k]) == pytest.approx(float(value), abs=3e-6), name


def test_members_have_multiclass_metrics_with_and_without_ties():
    """Coarse probabilities tie often."""
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.randn(3, 400, 5, generator=generator).softmax(dim=2)
    probabilities[0] = (probabilities[0] * 4).round() / 4
    probabilities[0] /= probabilities[0].sum(dim=1, keepdim=True).clamp_min(0.25)
    target = torch.randint(0, 5, (3, 400), generator=generator)
    check_members("multiclass", probabilities, target, 5)


def test_members_have_multiclass_metrics_where_a_class_is_never_predicted():
    """It counts for nothing if it is not there either; torchmetrics has 0 for its AUROC."""
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.randn(2, 200, 4, generator=generator)
    probabilities[:, :, 3] = -20
    target = torch.randint(0, 3, (2, 200), generator=generator)
    target[1, 0] = 3
    probabilities = probabilities.softmax(dim=2)
    check_members("multiclass", probabilities[1:], target[1:], 4)
    found = metrics_of("multiclass", probabilities, target)
    y, p = target[0].numpy(), probabilities[0].numpy()
    assert found["f1"][0] == pytest.approx(f1_score(y, p.argmax(1), average="macro"))
    areas = [roc_auc_score(y == k, p[:, k]) for k in range(3)]
    assert found["auroc"][0] == pytest.approx(np.mean(areas))


def test_members_have_binary_metrics_with_and_without_ties():
    """Also for predictions of exactly 0, 1 and a half."""
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(3, 300, generator=generator)
    probabilities[1] = (probabilities[1] * 4).round() / 4
    check_members("binary", probabilities, torch.randint(0, 2, (3, 300), generator=generator))


def test_members_have_regression_metrics_far_from_zero():
    """R squared does not lose its digits."""
    generator = torch.Generator().manual_seed(0)
    target = 1000 + torch.randn(3, 300, generator=generator, dtype=torch.float64)
    check_members("regression", target + 0.5 * torch.randn(3, 300, generator=generator), target)


def test_rows_count_beyond_what_float32_can_count():
    """Ones that are added up in float32 stay at 2**24."""
    n_hits, n_misses = 2**24, 2**20
    labels = torch.zeros(1, n_hits + n_misses, dtype=torch.int64)
    labels[:, :n_misses] = 1
    target = torch.zeros(1, 1, dtype=torch.int64).expand_as(labels)
    per_class = _f1(labels, target, n_classes=2)
    assert per_class[0].tolist() == pytest.approx([2 * n_hits / (2 * n_hits + n_misses), 0.0])
    confidence = torch.full(labels.shape, 0.25)
    error = metrics._calibration_error(confidence, torch.zeros(1, 1))
    assert error.item() == pytest.approx(0.25)


@pytest.mark.parametrize("task", METRICS)
def test_metrics_are_taken_where_the_predictions_are(task):
    """Nothing is made on another device: one that computes nothing stands for a GPU."""
    shape = (2, 30, 3) if task == "multiclass" else (2, 30)
    predictions = torch.empty(shape, device="meta")
    target = torch.empty(2, 30, dtype=torch.int64, device="meta")
    found = metrics_of(task, predictions, target.float() if task == "regression" else target)
    assert found
    for value in found.values():
        assert value.shape == (2,)
        assert value.device.type == "meta"


def test_what_is_undefined_for_one_member_is_defined_for_the_others():
    """Each by its own targets: one that is constant, one of a single class."""
    generator = torch.Generator().manual_seed(0)
    predictions = torch.rand(3, 20, generator=generator)
    values = torch.rand(3, 20, generator=generator)
    values[1] = 0.6
    found = metrics_of("regression", predictions, values)
    assert found["r2"].isnan().tolist() == [False, True, False]
    assert found["r2"][2].item() == pytest.approx(r2_score(values[2], predictions[2]), rel=1e-5)
    assert found["rmse"].isfinite().all()
    labels = (values > 0.5).long()
    found = metrics_of("binary", predictions, labels)
    assert labels[1].all()
    assert found["auroc"].isnan().tolist() == [False, True, False]
    for k in (0, 2):
        expected = roc_auc_score(labels[k], predictions[k])
        assert found["auroc"][k].item() == pytest.approx(expected)


@pytest.mark.parametrize("move", [lambda p: p * 1e-200, lambda p: 1 - p * 1e-12])
def test_probabilities_in_float64_keep_their_order(move):
    """What float32 takes for ties are none, at either end."""
    probabilities = np.random.default_rng(0).random(200)
    target = (probabilities + np.random.default_rng(1).random(200) > 1).astype(np.int64)
    expected = roc_auc_score(target, move(probabilities))
    assert computed("binary", move(probabilities), target)["auroc"] == pytest.approx(expected)
    both = np.stack([1 - move(probabilities), move(probabilities)], axis=1)
    found = computed("multiclass", both, target)
    first = roc_auc_score(target == 0, both[:, 0])
    assert found["auroc"] == pytest.approx((expected + first) / 2)
