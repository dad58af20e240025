"""A sweep's jobs are what Hydra composes, however they are made."""

from pathlib import Path
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobRuntime, setup_globals
from hydra.types import RunMode
from hydra.version import setbase
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from multilayer.cli.config_loader import CachingConfigLoader
from multilayer.composing.job_configs import plain_job
from multilayer.core.config_folder import conf_dir
from multilayer.core.errors import first_line
from multilayer.runs.config import recorded_overrides, to_plain

SWEEP = ["hydra.mode=MULTIRUN", "hydra/launcher=lockstep"]


def make_loader() -> CachingConfigLoader:
    """As the command has it."""
    setbase("1.3")
    setup_globals()
    JobRuntime.instance().set("name", "train")
    return CachingConfigLoader(create_config_search_path(str(conf_dir())))


def make_loader_of_hydra() -> ConfigLoaderImpl:
    """Hydra's own."""
    return ConfigLoaderImpl(create_config_search_path(str(conf_dir())))


@pytest.fixture(autouse=True)
def _hydra_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """`${hydra:...}` refers to a job afterwards."""
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)


def master_of(loader: ConfigLoaderImpl, *words: str) -> DictConfig:
    """The config of a sweep, whose folder Hydra's sweeper has made."""
    master = loader.load_configuration("train", [*SWEEP, *words], RunMode.MULTIRUN)
    assert master.hydra.sweep.dir
    return master


def by_hydra(
    loader: ConfigLoaderImpl, master: DictConfig, words: list[str], number: int
) -> tuple[Any, ...]:
    """What a launcher makes of a job that Hydra composes, or the error."""
    try:
        config = ConfigLoaderImpl.load_sweep_config(loader, master, words)
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.job.id = config.hydra.job.num = number
        HydraConfig.instance().set_config(config)
        folder = Path(config.hydra.sweep.dir, str(config.hydra.sweep.subdir)).absolute()
        with read_write(config.hydra):
            config.hydra.runtime.output_dir = str(folder)
        HydraConfig.instance().set_config(config)
        values = to_plain(config)
    except Exception as error:  # Hydra's own parser has faults
        return ("error", words_of(error))
    return described(values, folder, recorded_overrides(config.hydra), config)


def by_us(
    loader: CachingConfigLoader, master: DictConfig, words: list[str], number: int
) -> tuple[Any, ...]:
    """The same for a job that the launcher makes."""
    try:
        loader.load_sweep_config(master, list(words))  # the sweeper's check
        job = plain_job(loader.load_sweep_config(master, list(words)), number)
    except Exception as error:  # Hydra's own parser has faults
        return ("error", words_of(error))
    return described(job.config, job.folder, job.overrides, job.hydra_config)


def described(
    values: Any, folder: Path, overrides: list[str], config: DictConfig
) -> tuple[Any, ...]:
    """All of a job; texts tell 1 from 1.0 and true, and the order of keys too."""
    unresolved = OmegaConf.to_container(config, resolve=False)
    flags = [OmegaConf.is_struct(config), OmegaConf.is_readonly(config)]
    flags += [OmegaConf.is_struct(config.hydra), OmegaConf.is_readonly(config.hydra)]
    return repr(values), folder, overrides, repr(unresolved), flags, type(config)


def words_of(error: Exception) -> str:
    """The message; Python's about recursion differs with what it was doing when it ended."""
    return first_line(error).partition("recursion depth exceeded")[0]


FIXED = [
    "data=iris",
    "optimizer=sgd",
    "scheduler=plateau",
    "callbacks=[default,diagnostics]",
    "logger=mlflow",
    "~callbacks.learning_rate",
    "~seed",
    "++model.x=1",
    "+trainer.extra=${optimizer.lr}",
    "+model.nested=a${trainer.extra}b${seed}",
    "+model.dynamic=${optimizer.${mode}}",
    "+model.same=${model.d_hidden}",
    "+model.job=${hydra:job.num}",
    "+model.dirname=${hydra:job.override_dirname}${hydra:runtime.output_dir}",
    "+model.task=${hydra:overrides.task}",
    "+model.year=${now:%Y}",
    "+data.secret=${oc.env:MULTILAYER_SECRET}${seed}",
    "+data.task=${oc.env:MULTILAYER_SECRET,none}",
    "+data.through=[1,${data.secret}]",
    "+model.secret=${data.secret}",
    "callbacks.early_stopping=null",
    "callbacks.early_stopping.min_delta=${optimizer.lr}",
    "monitor=${mode}",
    "optimizer={lr: 1}",
]
"""Overrides that all jobs of a sweep have."""

KEYS = ["optimizer.lr", "seed", "mode", "monitor", "model.d_hidden", "model.dropout"]
KEYS += ["model._target_", "model.activation", "data.batch_size", "data.shuffle_seed"]
KEYS += ["trainer.max_epochs", "callbacks.early_stopping.patience", "callbacks.checkpoint.monitor"]

ODD_KEYS = ["optimizer", "optimizer.no_such_key", "no_such_key", "seed.deeper", "resume"]
ODD_KEYS += ["callbacks.early_stopping", "hydra.sweep.subdir", "model.d_hidden.0"]

VALUES = ["0", "1", "1.0", "1e-3", "-2.", "+7", "007", "1_000", "true", "relu", "lr", "min"]
VALUES += ["'1'", "'quoted, text'", "n_features", "multilayer.MLP", "nan", "-inf", "''", "a b"]
VALUES += ["[]", "[8,8]", "[0.1,'n_outputs']"]

ODD_VALUES = ["null", "[0.1,null]", "[[1]]", "{a: 1}", "${seed}", "'???'", "a:b", "sgd", "1,2"]
ODD_VALUES += ["${hydra:job.num}", "'oc.env:X'", "${no_such_key}", "'a\\${b'"]


def mostly(usual: list[str], odd: list[str]) -> st.SearchStrategy[str]:
    """One of the usual ones in nine of ten cases."""
    return st.sampled_from(9 * len(odd) * usual + len(usual) * odd)


@st.composite
def sweeps(draw: st.DrawFn) -> list[list[str]]:
    """Jobs with the same keys, and some that have more or fewer."""
    fixed = draw(st.lists(st.sampled_from(FIXED), unique=True, max_size=4))
    keys = draw(st.lists(mostly(KEYS, ODD_KEYS), max_size=3, unique=True))
    order = draw(st.permutations(range(len(fixed) + len(keys))))
    jobs = []
    for _ in range(draw(st.integers(3, 6))):
        words = fixed + [f"{key}={draw(mostly(VALUES, ODD_VALUES))}" for key in keys]
        more_or_fewer = draw(mostly(["same"], ["more", "fewer"]))
        words = [words[i] for i in order][more_or_fewer == "fewer" :]
        jobs.append(words + ["seed=7"] * (more_or_fewer == "more"))
    return jobs


@pytest.fixture(scope="module")
def shared_loader() -> CachingConfigLoader:
    """One that has read its files."""
    return make_loader()


@given(jobs=sweeps(), of_sweep=st.sampled_from(["", "hydra.sweep.subdir=${hydra:job.num}_${seed}"]))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_jobs_are_those_of_hydra(
    shared_loader: CachingConfigLoader, jobs: list[list[str]], of_sweep: str
) -> None:
    """Values with their types, folder, recorded overrides, Hydra's config, and errors."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MULTILAYER_SECRET", "hunter2")
        master = master_of(shared_loader, *filter(None, [of_sweep]))
        ours = [by_us(shared_loader, master, job, i) for i, job in enumerate(jobs)]
        assert ours == [by_hydra(shared_loader, master, job, i) for i, job in enumerate(jobs)]


READ = "++data.task=${oc.env:SECRET}"
"""What the program reads from the environment itself."""

ALIKE = {
    "as a search says it": (["optimizer.lr=0.1", "seed=1"], ["optimizer.lr=1e-3", "seed=2"]),
    "types": (["model.dropout=0", "mode=a"], ["model.dropout=0.0", "mode=1"]),
    "lists": (["model.d_hidden=[8]"], ["model.d_hidden=[8,'n_outputs',true]"]),
    "old names": (
        ["+model.n=n_features", "model._target_=multilayer.MLP"],
        ["+model.n=n_features", "model._target_=multilayer.Perceptron"],
    ),
    "choices and new keys": (
        ["optimizer=sgd", "+model.a=[${seed},x]", "seed=1"],
        ["optimizer=sgd", "+model.a=[${seed},x]", "seed=2"],
    ),
    "through others": (
        ["+a=${b}", "+b={c: '${optimizer.lr}'}", "optimizer.lr=1"],
        ["+a=${b}", "+b={c: '${optimizer.lr}'}", "optimizer.lr=2"],
    ),
    "to Hydra": (
        ["+model.dir=${hydra:runtime.output_dir}", "+model.do=${hydra:overrides.task}", "seed=1"],
        ["+model.dir=${hydra:runtime.output_dir}", "+model.do=${hydra:overrides.task}", "seed=2"],
    ),
    "to the environment": (
        ["+data.a=${oc.env:SECRET}${seed}", "+data.b=[1,{c: '${data.a}'}]", READ, "seed=1"],
        ["+data.a=${oc.env:SECRET}${seed}", "+data.b=[1,{c: '${data.a}'}]", READ, "seed=2"],
    ),
}
"""Jobs of one kind, and others of it."""


@pytest.mark.parametrize("name", ALIKE)
def test_jobs_that_differ_in_values_are_composed_twice(
    name: str, shared_loader: CachingConfigLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are; Hydra's own loader gives the same ones."""
    monkeypatch.setenv("SECRET", "hunter2")
    own = make_loader_of_hydra()
    master = master_of(shared_loader, "hydra.sweep.subdir=${hydra:job.num}_${seed}")
    jobs = [list(ALIKE[name][i]) for i in (0, 0, 1, 0, 1)]
    composed = []
    load = ConfigLoaderImpl.load_configuration

    def counted(*arguments: Any, **named: Any) -> DictConfig:
        composed.append(arguments)
        return load(*arguments, **named)

    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", counted)
    ours = [by_us(shared_loader, master, job, i) for i, job in enumerate(jobs)]
    assert len(composed) == 2
    assert ours == [by_hydra(own, master, job, i) for i, job in enumerate(jobs)]


def test_what_may_depend_on_a_value_is_composed_by_hydra(
    shared_loader: CachingConfigLoader,
) -> None:
    """A key set twice or below another one, and deleting by a value."""
    master = master_of(shared_loader)
    for words in (
        ["+model.seed=1", "model.seed=2"],
        ["callbacks.early_stopping={}", "callbacks.early_stopping.patience=1"],
        ["seed=1", "seed=2"],
        ["optimizer.lr=1", "~optimizer.lr=1"],
        ["seed=1", "~data.shuffle_seed=1"],
    ):
        configs = [shared_loader.load_sweep_config(master, words) for _ in range(4)]
        assert {type(config) for config in configs} == {DictConfig}


def test_what_hydra_does_for_a_job_may_depend_on_a_value(
    shared_loader: CachingConfigLoader,
) -> None:
    """As the folder of its own files."""
    master = master_of(shared_loader, "hydra.output_subdir=of_${seed}")
    for seed in range(4):
        config = shared_loader.load_sweep_config(master, [f"seed={seed}"])
        assert plain_job(config, seed).alone == f"hydra.output_subdir=of_{seed}"


def test_a_number_and_a_list_are_two_kinds(shared_loader: CachingConfigLoader) -> None:
    """Of the same key."""
    master = master_of(shared_loader)
    jobs = [[f"model.dropout={value}"] for value in ("0.1", "[0.1,0.2]") * 4]
    ours = [by_us(shared_loader, master, job, i) for i, job in enumerate(jobs)]
    assert ours == [by_hydra(shared_loader, master, job, i) for i, job in enumerate(jobs)]


def test_a_time_is_a_jobs_own(shared_loader: CachingConfigLoader) -> None:
    """And the same in its plain data and in its config, which is made later."""
    master = master_of(shared_loader)
    words = ["+model.time=${now:%f}", "seed=1"]
    jobs = [plain_job(shared_loader.load_sweep_config(master, words), i) for i in range(4)]
    times = [job.config["model"]["time"] for job in jobs]
    assert len(set(times)) == len(times)
    assert [job.hydra_config.model.time for job in jobs] == times


def test_jobs_share_no_data(shared_loader: CachingConfigLoader) -> None:
    """Neither as plain data nor as configs."""
    master = master_of(shared_loader)
    words = ["model.d_hidden=[8]", "seed=1"]
    jobs = [plain_job(shared_loader.load_sweep_config(master, words), i) for i in range(4)]
    jobs[2].config["model"]["d_hidden"].append(1)
    jobs[2].config["trainer"].clear()
    jobs[2].hydra_config.model.d_hidden.append(1)
    assert [job.config["model"]["d_hidden"] for job in jobs] == [[8], [8], [8, 1], [8]]
    assert [job.hydra_config.model.d_hidden for job in jobs] == [[8], [8], [8, 1], [8]]
    assert jobs[3].config["trainer"]
