"""Configs that are made when they are looked at, and what Hydra does for a job."""

from copy import copy, deepcopy

import pytest
from omegaconf import DictConfig, OmegaConf, open_dict

from multilayer.composing.job_configs import ConfigOnDemand, _hydras_reason_to_be_alone


@pytest.mark.parametrize(
    "look",
    [
        lambda config: config.a.b,
        lambda config: config["a"]["b"],
        lambda config: OmegaConf.select(config, "a.b"),
        lambda config: OmegaConf.to_container(config)["a"]["b"],
        lambda config: deepcopy(config).a.b,
        lambda config: copy(config).a.b,
        lambda config: dict(config)["a"]["b"],
        lambda config: OmegaConf.merge(config, {"c": 1}).a.b,
        len,
        lambda config: int(config == OmegaConf.create({"a": {"b": 1}, "d": "${a.b}"})),
    ],
)
def test_a_config_is_made_when_it_is_looked_at(look: object) -> None:
    """Once, and is then like any other."""
    n_made = 0

    def make() -> DictConfig:
        nonlocal n_made
        n_made += 1
        return OmegaConf.create({"a": {"b": 1}, "d": "${a.b}"})

    config = ConfigOnDemand(make)
    assert isinstance(config, DictConfig)
    assert n_made == 0
    assert look(config) in (1, 2)  # type: ignore[operator]
    assert type(config) is DictConfig
    with open_dict(config):
        config.a.b = 3
    assert config.d == 3
    assert config.a._get_parent() is config
    assert n_made == 1


def test_a_config_that_cannot_be_made_says_so_each_time() -> None:
    """With the error that the making raised."""

    def make() -> DictConfig:
        raise ValueError("wrong")

    config = ConfigOnDemand(make)
    for _ in range(2):
        with pytest.raises(ValueError, match="wrong"):
            assert config.a


def test_a_log_file_for_each_job_is_hydras_work() -> None:
    """`hydra/job_logging=default`, say."""
    job = {"chdir": False, "env_set": {}}
    handlers = {"file": {"filename": "train.log"}}
    hydra = {"job": job, "output_subdir": None, "job_logging": {"handlers": handlers}}
    reason = _hydras_reason_to_be_alone(OmegaConf.create({"hydra": hydra}))
    assert reason == "hydra.job_logging writes a file"
    del handlers["file"]["filename"]
    assert _hydras_reason_to_be_alone(OmegaConf.create({"hydra": hydra})) is None
