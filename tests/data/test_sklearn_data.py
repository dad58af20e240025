"""The data sets that need no download, against scikit-learn's own loaders."""

import numpy as np
import pytest
import torch
from sklearn import datasets

from multilayer.core.config_folder import conf_dir
from multilayer.data import BuiltinData, PassClassData
from multilayer.data.sklearn_data import _TASKS

# Rows, features and classes, as scikit-learn's user guide lists its toy data sets.
SHAPES = {
    "digits": (1797, 64, 10),
    "breast_cancer": (569, 30, 2),
    "wine": (178, 13, 3),
    "iris": (150, 4, 3),
    "diabetes": (442, 10, 0),
}
TASKS = {"digits": "multiclass", "breast_cancer": "binary", "diabetes": "regression"}


@pytest.mark.parametrize("name", _TASKS)
def test_values_are_scikit_learn_s(name):
    """Features and target of every row, and the names of the columns."""
    raw = getattr(datasets, f"load_{name}")()
    table = BuiltinData(name=name).load()
    assert table.features.dtype == torch.float32
    np.testing.assert_array_equal(table.features.numpy(), raw.data.astype(np.float32))
    np.testing.assert_array_equal(table.target.numpy(), raw.target)
    assert table.columns.features == list(raw.feature_names)


@pytest.mark.parametrize("name", _TASKS)
def test_task_and_classes_are_right(name):
    """The task is known before reading, and each class has its label."""
    data = BuiltinData(name=name)
    n_rows, n_features, n_classes = SHAPES[name]
    table = data.load()
    task = TASKS.get(name, "multiclass")
    assert data.task == table.columns.task == task
    assert table.features.shape == (n_rows, n_features)
    assert len(table.columns.classes) == n_classes
    assert table.columns.n_outputs == (n_classes if task == "multiclass" else 1)
    assert table.target.dtype == (torch.float32 if task == "regression" else torch.int64)
    if task != "regression":
        assert table.target.unique().tolist() == list(range(n_classes))
        raw = getattr(datasets, f"load_{name}")()
        assert table.columns.classes == [str(label) for label in raw.target_names]


@pytest.mark.parametrize("name", _TASKS)
def test_minibatches_hold_the_splits(name):
    """Set up, it gives finite minibatches of training, validation and test rows."""
    data = BuiltinData(name=name, batch_size=32)
    data.setup()
    loaders = [data.train_dataloader(), data.val_dataloader(), data.test_dataloader()]
    n_seen = 0
    for minibatches in loaders:
        for features, target in minibatches:
            assert features.isfinite().all()
            assert len(features) == len(target)
            n_seen += len(target)
    assert n_seen == SHAPES[name][0]


def test_setting_up_twice_changes_nothing():
    """Lightning calls `setup` before each stage; the rows stay the very same tensors."""
    data = BuiltinData(name="iris")
    data.setup("fit")
    before = data.features, data.targets
    data.setup("test")
    assert (data.features, data.targets) == before


def test_fingerprint_is_that_of_the_values():
    """The same set has the same fingerprint however it is split; another set has another."""
    prints = {}
    for key, data in {
        "iris": BuiltinData(name="iris"),
        "iris again": BuiltinData(name="iris", split_seed=1),
        "wine": BuiltinData(name="wine"),
    }.items():
        data.setup()
        prints[key] = data.fingerprint
    assert prints["iris"] == prints["iris again"]
    assert prints["iris"] != prints["wine"]


def test_every_set_has_a_config():
    """`data=NAME` works for each of them."""
    choices = {path.stem for path in (conf_dir() / "data").glob("*.yaml")}
    assert set(_TASKS) | {"pass_class"} <= choices


def test_an_unknown_name_is_answered_with_the_nearest():
    """One message with the name and the nearest valid one."""
    with pytest.raises(ValueError, match=r"unknown data set 'irsi': did you mean iris\?"):
        BuiltinData(name="irsi")


def test_pass_class_is_the_same_every_time():
    """Whatever the seeds, the students and their fates are the same."""
    torch.manual_seed(0)
    first = PassClassData().load()
    torch.manual_seed(1)
    again = PassClassData(split_seed=7, shuffle_seed=9).load()
    assert torch.equal(first.features, again.features)
    assert torch.equal(first.target, again.target)
    assert first.fingerprint() == again.fingerprint()


def test_pass_class_draws_nothing_from_the_global_generator():
    """Loading it leaves the initial weights as they would be."""
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    PassClassData().load()
    assert torch.equal(torch.rand(3), expected)


def test_pass_class_asks_the_lecture_s_question():
    """600 students, whole lectures up to 25, hours up to 50, and who passed."""
    table = PassClassData().load()
    lectures, hours = table.features.unbind(1)
    assert table.features.shape == (600, 2)
    assert table.columns.features == ["lectures", "hours"]
    assert table.columns.target == "passed"
    assert (table.columns.task, table.columns.classes) == ("binary", ["no", "yes"])
    assert set(lectures.tolist()) <= set(range(26))
    assert hours.min() >= 0
    assert hours.max() <= 50


def test_more_work_passes_more_often():
    """Who attended more lectures and worked more hours than the median passes more often."""
    table = PassClassData().load()
    above = (table.features > table.features.median(0).values).all(1)
    below = (table.features < table.features.median(0).values).all(1)
    passed = table.target.double()
    assert passed[above].mean() > 0.8
    assert passed[below].mean() < 0.2
