"""What an earlier version wrote is read as this one would have written it."""

from typing import Any

import pytest

from multilayer.core.renamed import current_key, with_current_names
from multilayer.data import Preprocessing

from ..conftest import Run

OLD = {
    "threads": 2,
    "allow": ["mine"],
    "model": {"_target_": "multilayer.MLP", "n_features": "n_features"},
    "data": {
        "_target_": "multilayer.data.TableData",
        "target": "n_features",
        "drop": ["id"],
        "group": "who",
        "numbers": "quantile",
        "train_rows": 20,
    },
    "scheduler": {
        "interval": "step",
        "_target_": "multilayer.schedulers.cosine",
        "_partial_": True,
        "n_steps": "n_steps",
        "warmup": 0.1,
        "final": 0.0,
    },
    "callbacks": {
        "lr_sweep": {
            "_target_": "multilayer.callbacks.LearningRateSweep",
            "folder": "run_folder",
            "mode": "range",
            "share": 0.2,
            "most_steps": 9,
            "threads": "auto",
        },
        "best_weights": {"_target_": "multilayer.callbacks.BestWeights", "mode": "min"},
        "none": None,
    },
}
NEW = {
    "num_threads": 2,
    "trusted_packages": ["mine"],
    "model": {"_target_": "multilayer.nn.MLP", "n_features": "@n_features"},
    "data": {
        "_target_": "multilayer.data.TableDataset",
        "target": "n_features",
        "drop_columns": ["id"],
        "group_column": "who",
        "numeric_scaling": "quantile",
        "max_train_rows": 20,
    },
    "scheduler": {
        "interval": "step",
        "scheduler": {
            "_target_": "multilayer.training.cosine",
            "_partial_": True,
            "n_steps": "@n_steps",
            "warmup_fraction": 0.1,
            "final_fraction": 0.0,
        },
    },
    "callbacks": {
        "lr_sweep": {
            "_target_": "multilayer.lr_sweep.LearningRateSweep",
            "folder": "@run_folder",
            "method": "range",
            "fraction": 0.2,
            "max_steps": 9,
            "num_threads": "auto",
        },
        "best_weights": {"_target_": "multilayer.callbacks.BestWeights", "mode": "min"},
        "none": None,
    },
}


@pytest.mark.parametrize("config", [OLD, NEW])
def test_a_config_of_either_version_is_read_as_a_new_one(config: dict[str, Any]) -> None:
    """Keys stay in their order; a column called `n_features` is no placeholder."""
    renamed = with_current_names(config)
    assert renamed == NEW
    assert list(renamed) == list(NEW)


def test_each_part_of_a_config_can_be_read_by_itself() -> None:
    """As the report does."""
    assert {
        new: value for key in OLD for new, value in with_current_names({key: OLD[key]}).items()
    } == NEW


def test_an_argument_of_a_users_own_class_keeps_its_name() -> None:
    """It only moves below `scheduler`."""
    schedule = {"_target_": "mine.cosine", "warmup": 0.1}
    found = with_current_names({"scheduler": {"interval": "epoch", **schedule}})
    assert found == {"scheduler": {"interval": "epoch", "scheduler": schedule}}
    data = {"_target_": "mine.Data", "drop": 0.5, "train_rows": 20}
    found = with_current_names({"data": data})["data"]
    assert found == {"_target_": "mine.Data", "drop": 0.5, "max_train_rows": 20}


@pytest.mark.parametrize("content", [None, 3, "a", [1], {"scheduler": [1]}, {1: {2: 3}}])
def test_what_is_no_config_stays_as_it_is(content: Any) -> None:
    """A damaged file is refused later, with its name."""
    assert with_current_names(content) == content


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("threads", "num_threads"),
        ("scheduler", "scheduler"),
        ("scheduler.interval", "scheduler.interval"),
        ("scheduler.T_max", "scheduler.scheduler.T_max"),
        ("scheduler.scheduler.T_max", "scheduler.scheduler.T_max"),
        ("data.threads", "data.threads"),
    ],
)
def test_a_key_of_a_command_line_is_renamed(key: str, expected: str) -> None:
    """The report shows an old sweep so; the command line suggests it."""
    assert current_key(key) == expected


@pytest.mark.parametrize("key", ["numbers", "train_rows", "categorical", "drop", "group"])
def test_an_old_key_of_a_table_is_answered_with_the_new_one(multilayer: Run, key: str) -> None:
    """Whether it is set or added."""
    for word in (f"data.{key}=1", f"+data.{key}=1"):
        outcome = multilayer("train", "data=table", "data.path=t.csv", "data.target=y", word)
        assert outcome.code == 2
        assert f"renamed to {current_key(f'data.{key}')}" in outcome.err


def test_options_of_an_older_preprocessing() -> None:
    """As Lightning's `load_from_checkpoint` finds them."""
    options = {"n_columns": 3, "n_labels": {2: 4}, "numbers": "quantile"}
    found = Preprocessing.from_options(options)
    assert found.options() == {"n_columns": 3, "n_labels": {2: 4}, "numeric_scaling": "quantile"}
