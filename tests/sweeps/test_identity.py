"""Which configs are the same job, and which jobs are the same sweep."""

import json
import subprocess
import sys
from copy import deepcopy
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multilayer.sweeps.compatibility import BatchValues, conflicts
from multilayer.sweeps.identity import identity, values_that_matter

from ..trained import config_of

SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5)
)
KEYS = st.text("ab._", min_size=1, max_size=3)
CONFIGS: Any = st.recursive(
    SCALARS,
    lambda node: st.lists(node, max_size=3) | st.dictionaries(KEYS, node, max_size=3),
    max_leaves=8,
)


def in_words(node: Any) -> Any:
    """What a value means, so that equal meanings are equal in Python: the oracle."""
    if isinstance(node, dict):
        return {key: in_words(value) for key, value in node.items()}
    if isinstance(node, list):
        return [in_words(each) for each in node]
    return node if isinstance(node, int | float) and not isinstance(node, bool) else repr(node)


def reordered(node: Any) -> Any:
    """The same with the keys the other way round, and numbers of the other type."""
    if isinstance(node, dict):
        return {key: reordered(node[key]) for key in reversed(node)}
    if isinstance(node, list):
        return [reordered(each) for each in node]
    if isinstance(node, float) and node.is_integer():
        return int(node)
    is_exact = type(node) is int and abs(node) <= 2**53
    return float(node) if is_exact else node


@settings(
    deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)  # a busy machine is no fault
@given(CONFIGS, CONFIGS)
def test_configs_have_the_same_identity_if_and_only_if_they_mean_the_same(a: Any, b: Any) -> None:
    """Whatever is nested in them."""
    assert identity({"model": a}) == identity({"model": reordered(a)})
    same = identity({"model": a}) == identity({"model": b})
    if "nan" not in repr((a, b)):
        assert same == (in_words(a) == in_words(b))


@pytest.mark.parametrize(
    "other",
    [
        ["engine=lockstep"],
        ["compile=false", "num_threads=2", "trainer=cpu"],
        ["logger=none"],
        ["optimizer.fused=true"],
        ["callbacks=early_stopping"],
        ["trainer.log_every_n_steps=1"],
        ["trainer.max_epochs=50.0", "seed=0"],
        ["callbacks=default", "callbacks.checkpoint.every_seconds=1"],
        ["trusted_packages=[torchvision]"],
    ],
)
def test_what_has_no_part_in_the_result_has_none_in_the_identity(other: list[str]) -> None:
    """How it is computed, logged, printed and saved."""
    config = config_of("data=iris", *[word for word in other if "50.0" not in word])
    if any("50.0" in word for word in other):
        config["trainer"]["max_epochs"] = 50.0
    assert identity(config) == identity(config_of("data=iris"))


def test_sweeps_of_before_there_were_refits_go_on() -> None:
    """Without a refit a job is what it was; with one it is another."""
    config = config_of("data=iris")
    before = {key: value for key, value in config.items() if key != "refit"}
    assert identity(config) == identity(before)
    old, now, with_refit = (
        BatchValues.of([values_that_matter(each)])
        for each in (before, config, config_of("data=iris", "refit=true"))
    )
    assert conflicts([old], now) == []
    assert conflicts([old], with_refit) == ["refit=true: the jobs of this sweep have refit=false"]
    assert conflicts([with_refit], now) == ["refit=false: the jobs of this sweep have refit=true"]


def test_sweeps_of_before_there_were_splits_by_time_go_on() -> None:
    """A job of a table without any is what it was; one with a time is another."""
    words = ["data=table", "data.path=t.csv", "data.target=y"]
    config = config_of(*words)
    later = ("split", "time", "split_column")
    data = {key: value for key, value in config["data"].items() if key not in later}
    old, now, by_time = (
        BatchValues.of([values_that_matter(each)])
        for each in (
            config | {"data": data},
            config,
            config_of(*words, "data.split=time", "data.time=day"),
        )
    )
    assert identity(config) == identity(config | {"data": data})
    assert conflicts([old], now) == []
    assert conflicts([old], by_time) == [
        "data.split=time: the jobs of this sweep have data.split=null",
        "data.time=day: the jobs of this sweep have data.time=null",
    ]


def test_the_threads_of_a_learning_rate_sweep_have_no_part_in_it() -> None:
    """It takes their number from the config's."""
    words = ["data=iris", "callbacks=lr_sweep"]
    assert identity(config_of(*words, "num_threads=2")) == identity(config_of(*words))
    assert identity(config_of(*words, "callbacks.lr_sweep.n_seeds=4")) != identity(
        config_of(*words)
    )


@pytest.mark.parametrize(
    "other",
    [
        ["seed=1"],
        ["optimizer.lr=0.002"],
        ["data.split_seed=1"],
        ["callbacks=checkpoint"],
        ["callbacks.early_stopping.patience=11"],
        ["trainer.precision=bf16-mixed"],
        ["monitor=validation/accuracy", "mode=max"],
        ["trainer.limit_train_batches=1"],
        ["refit=true"],
    ],
)
def test_what_decides_the_result_decides_the_identity(other: list[str]) -> None:
    """One minibatch is not all of them, for which Lightning's Trainer is given 1 and 1.0."""
    assert identity(config_of("data=iris", *other)) != identity(config_of("data=iris"))


@pytest.mark.parametrize(
    ("key", "node"),
    [
        ("callbacks", {"mine": {"_target_": "my_project.LearningRate", "peak": 0.1}}),
        ("callbacks", {"mine": {"_target_": "my_project.parts.Checkpoint", "peak": 0.1}}),
        ("model", {"_target_": "my_project.Network", "n_token": 0.1}),
        ("model", {"_target_": "my_project.Network", "num_threads": 0.1}),
    ],
)
def test_names_of_a_users_own_are_not_taken_for_ours(key: str, node: dict[str, Any]) -> None:
    """Nor a count for a secret."""
    other = json.loads(json.dumps(node).replace("0.1", "512"))
    assert identity({key: node}) != identity({key: other})


def test_a_file_of_the_data_is_known_by_its_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same job may be started in another folder."""
    here = {"data": {"path": "my.csv"}, "resume": "runs/1"}
    monkeypatch.chdir(tmp_path)
    there = {"data": {"path": str(tmp_path / "my.csv")}, "resume": str(tmp_path / "runs" / "1")}
    assert identity(here) == identity(there)
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert identity(here) != identity(there)


def test_secrets_are_neither_kept_nor_hashed() -> None:
    """They come from the environment of whoever trains."""
    config = {"data": {"url": "https://me:hunter2@example.org", "api_key": "k"}}
    assert "hunter2" not in str(values_that_matter(config))
    assert values_that_matter(config)["data.api_key"] == "***"


def test_an_identity_is_the_same_in_another_process_and_in_later_versions() -> None:
    """Python's own hashes differ between processes; this one is recorded."""
    config = {"seed": 1, "model": {"d_hidden": [64, 32.0], "x": 0.1, "n": None, "é": float("inf")}}
    text = (
        r'{"model.d_hidden":[64,32],"model.n":null,"model.x":0.1,"model.\u00e9":Infinity,"seed":1}'
    )
    program = (
        "import json,sys; from multilayer.sweeps import identity;"
        "print(identity(json.load(sys.stdin)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(config),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert found == identity(deepcopy(config))
    assert found == sha256(text.encode()).hexdigest()[:32]


def batch(*words: str, **swept: list[Any]) -> BatchValues:
    """The values of jobs that differ in one key."""
    ((key, values),) = swept.items() if swept else [("seed", [0])]
    jobs = [config_of("data=iris", *words, f"{key.replace('__', '.')}={value}") for value in values]
    return BatchValues.of([values_that_matter(job) for job in jobs])


def test_a_sweep_may_be_extended_and_its_axes_added_to() -> None:
    """More values, fewer, other ones of the same axis, and an axis that was fixed."""
    old = batch(optimizer__lr=[0.1, 0.2])
    assert conflicts([], old) == []
    for new in (
        batch(optimizer__lr=[0.1, 0.2, 0.3]),
        batch(optimizer__lr=[0.2]),
        batch(optimizer__lr=[0.5]),
        batch("optimizer.lr=0.1", seed=[0, 1]),
        batch("optimizer.lr=0.1", model=["mlp", "perceptron"]),
    ):
        assert conflicts([old], new) == []
    models = batch(model=["mlp", "perceptron"])
    assert conflicts([models], batch(model=["perceptron"])) == []


def test_another_sweep_is_told_from_the_same_one() -> None:
    """By each value that was fixed and is fixed to another one now."""
    old = batch(optimizer__lr=[0.1, 0.2])
    assert conflicts([old], batch("data=digits", optimizer__lr=[0.1, 0.2])) == [
        "data.name=digits: the jobs of this sweep have data.name=iris"
    ]
    assert conflicts([old], batch("trainer.max_epochs=5", optimizer__lr=[0.1, 0.2])) == [
        "trainer.max_epochs=5: the jobs of this sweep have trainer.max_epochs=50"
    ]
    (problem,) = conflicts([old], batch("model=perceptron", optimizer__lr=[0.1]))
    assert problem.startswith("model._target_=multilayer.nn.Perceptron: ")
    problems = conflicts([old], batch("callbacks=checkpoint", optimizer__lr=[0.1]))
    assert [each.partition("=")[0] for each in problems] == [
        "callbacks.early_stopping._target_",
        "callbacks.turning_point._target_",
    ]
