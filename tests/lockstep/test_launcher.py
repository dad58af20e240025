"""`hydra/launcher=lockstep` on the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from multilayer.cli.tasks import train
from multilayer.core.config_folder import conf_dir
from multilayer.core.errors import UserError
from multilayer.lockstep.stack import Stack

from ..conftest import Run
from ..trained import config_of

QUICK = ["-m", "hydra/launcher=lockstep", "hydra.sweep.dir=sweep", "data=iris"]
QUICK += ["trainer.max_epochs=2"]


def manifests(tmp_path: Path) -> list[dict[str, Any]]:
    """In the order of the jobs' numbers."""
    folders = sorted((tmp_path / "sweep").glob("[0-9]*"), key=lambda path: int(path.name))
    return [json.loads((folder / "manifest.json").read_text()) for folder in folders]


def test_a_sweep_leaves_the_folders_of_any_sweep(multilayer: Run, tmp_path: Path) -> None:
    """A folder and a row a job; each can be evaluated, and predicts."""
    outcome = multilayer("train", *QUICK, "optimizer.lr=1e-3,1e-1", "seed=0,1")
    assert outcome.code == 0, outcome.err
    assert "lockstep: 1 stack of 4 runs" in outcome.out
    assert outcome.out.count(" *") == 1
    found = manifests(tmp_path)
    assert [each["status"] for each in found] == ["done"] * 4
    assert {(each["members"], each["stack"]) for each in found} == {(4, "sweep/0")}
    assert found[3]["overrides"] == [*QUICK[3:], "optimizer.lr=0.1", "seed=1"]
    assert found[3]["command"].endswith("optimizer.lr=0.1 seed=1")
    assert multilayer("evaluate", "run=sweep/2").code == 0
    outcome = multilayer("evaluate", "run=sweep/2", "split=validation")
    metrics = json.loads((tmp_path / "sweep" / "2" / "metrics.json").read_text())
    assert f"{metrics['validation']['loss']:.8f}"[:6] in outcome.out


def test_jobs_that_do_not_stack_run_in_the_same_sweep(multilayer: Run, tmp_path: Path) -> None:
    """Two shapes are two stacks, and one that cannot stack runs alone; all are in the table."""
    outcome = multilayer("train", *QUICK, "model.d_hidden=[4],[8]", "trainer.max_steps=-1,3")
    assert outcome.code == 0, outcome.err
    assert "lockstep: 2 stacks of 1 run each" in outcome.out
    assert "lockstep: jobs 1, 3 alone: trainer.max_steps=3" in outcome.out
    assert [each.get("stack") for each in manifests(tmp_path)] == ["sweep/0", None, "sweep/2", None]
    assert [each["status"] for each in manifests(tmp_path)] == ["done"] * 4


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer=sgd", "optimizer.momentum=0.9,0,0.5", "optimizer.nesterov=true"], "job 1: "),
        (["loss=auto,mse,cross_entropy"], "job 1: loss: MSELoss is for regression"),
        (["data.folds=2,3", "data.fold=0,2"], "job 1: data.fold=2: of data.folds=2 the last is 1"),
    ],
)
def test_a_broken_job_does_not_stop_the_others(
    overrides: list[str], message: str, multilayer: Run, tmp_path: Path
) -> None:
    """It is named at once, with its folder, and again at the end; the exit code is 1."""
    outcome = multilayer("train", *QUICK, *overrides)
    assert outcome.code == 1
    assert f"run folder: {Path('sweep', '1')}" in outcome.err
    assert message in outcome.err
    statuses = [each["status"] for each in manifests(tmp_path)]
    assert f"failed        1 of {len(statuses)}: job 1" in outcome.out
    assert statuses == ["done", "failed", "done", "done"][: len(statuses)]
    assert statuses[2:]


def test_a_stack_can_be_bounded_on_the_command_line(multilayer: Run) -> None:
    """`hydra.launcher.max_members`."""
    outcome = multilayer("train", *QUICK, "hydra.launcher.max_members=2", "seed=0,1,2")
    assert outcome.code == 0, outcome.err
    assert "lockstep: 1 stack of 3 runs, 2 at a time" in outcome.out


def test_a_bound_below_one_is_refused(multilayer: Run, tmp_path: Path) -> None:
    """One message, and nothing is left behind."""
    outcome = multilayer("train", *QUICK, "hydra.launcher.max_members=0", "seed=0,1")
    assert outcome.code == 2
    assert "hydra.launcher.max_members=0: must be a whole number of at least 1" in outcome.err
    assert "Traceback" not in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_a_single_run_takes_the_engine_too(multilayer: Run, tmp_path: Path) -> None:
    """`engine=lockstep`, and why not where it cannot."""
    outcome = multilayer("train", "data=iris", "trainer.max_epochs=2", "engine=lockstep")
    assert outcome.code == 0, outcome.err
    assert len(list(tmp_path.glob("runs/*/*/metrics.json"))) == 1
    outcome = multilayer("train", "data=iris", "trainer.max_steps=2", "engine=lockstep")
    assert outcome.code == 2
    assert "engine=lockstep: trainer.max_steps=2; use engine=lightning" in outcome.err
    assert len(list(tmp_path.glob("runs/*/*"))) == 1


def test_a_single_run_that_cannot_stack_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its data is read, and before a checkpoint is."""
    monkeypatch.delattr("multilayer.data.Dataset.setup")
    config = config_of("trainer.max_steps=2", "engine=lockstep")
    with pytest.raises(UserError, match=r"engine=lockstep: trainer\.max_steps=2; use engine="):
        train(config, tmp_path)
    config["optimizer"]["lrr"] = 1  # what is wrong comes before what does not stack
    with pytest.raises(UserError, match=r"^optimizer\.lrr: "):
        train(config, tmp_path)
    with pytest.raises(UserError, match=r"engine=lockstep: .*\(resume\); use engine=lightning"):
        train(config | {"resume": "runs/x"}, tmp_path)


OWN = "model._target_=tests.lockstep.networks"


def test_a_network_of_the_users_own_stacks(multilayer: Run, tmp_path: Path) -> None:
    """With parameters of its own, frozen ones, and layers within layers."""
    network = [f"{OWN}.Residual", "model=sequential", "~model._args_"]
    network += ["+model.n_features=n_features", "+model.n_outputs=n_outputs"]
    outcome = multilayer("train", *QUICK, *network, "seed=0,1")
    assert outcome.code == 0, outcome.err
    assert "lockstep: 1 stack of 2 runs" in outcome.out
    assert [each["members"] for each in manifests(tmp_path)] == [2, 2]


@pytest.mark.parametrize(
    ("name", "own", "reason"),
    [
        ("LooksAtData", [], "torch.func.vmap cannot run the network"),
        ("Replaces", [], "the network replaces its buffer network.mean"),
        ("Counts", [], "a step changes Counts.n_steps"),
        ("ByNumpy", [], "the network draws random numbers otherwise"),
        ("ByPython", [], "the network draws random numbers otherwise"),
        ("Recurrent", [], "torch.func.vmap cannot run the network"),
        ("OwnDropout", ["+model.dropout=0.5"], "the network draws random numbers otherwise"),
        ("OwnRates", ["+model.dropout=0.5"], "the network draws random numbers otherwise"),
        ("OwnLayer", ["+model.dropout=0.5"], "the network draws random numbers otherwise"),
    ],
)
def test_a_network_that_does_not_stack_trains_alone(
    name: str, own: list[str], reason: str, multilayer: Run, tmp_path: Path
) -> None:
    """In the same sweep, and the reason is given; a single run is refused."""
    network = [f"{OWN}.{name}", "model=sequential", "~model._args_"]
    network += ["+model.n_features=n_features", "+model.n_outputs=n_outputs"]
    check_trains_alone(multilayer, tmp_path, [*network, *own], reason)


def test_a_loss_that_changes_in_a_step_trains_alone(multilayer: Run, tmp_path: Path) -> None:
    """It would count the steps of all members."""
    loss = ["loss=mse", "loss._target_=tests.lockstep.networks.CountingLoss"]
    check_trains_alone(multilayer, tmp_path, loss, "a step changes CountingLoss.n_uses")


def check_trains_alone(multilayer: Run, folder: Path, own: list[str], reason: str) -> None:
    """Two jobs with these overrides train, and the plan says why not as a stack."""
    outcome = multilayer("train", *QUICK, *own, "seed=0,1")
    assert outcome.code == 0, outcome.err
    assert f"lockstep: jobs 0 to 1 alone: {reason}" in outcome.out
    assert [each["status"] for each in manifests(folder)] == ["done"] * 2
    assert all("members" not in each for each in manifests(folder))


@pytest.mark.parametrize(
    ("name", "own", "difference"),
    [
        ("DropoutIfAny", ["+model.dropout=0,0.5", "seed=0,1,2"], "their layers"),
        ("Held", ["+model.dropout=0,0.5", "seed=0,1,2"], "Held.settings"),
        ("Masked", ["seed=0,1", "optimizer.lr=0.1,0.2,0.3"], "Masked.mask"),
        ("NoiseIfAny", ["+model.dropout=0,0.5", "seed=0,1,2"], "NoiseIfAny.noise"),
    ],
)
def test_networks_that_differ_are_several_stacks(
    name: str, own: list[str], difference: str, multilayer: Run, tmp_path: Path
) -> None:
    """Which their configs do not show: it is said when they are built."""
    network = [f"{OWN}.{name}", "model=sequential", "~model._args_"]
    network += ["+model.n_features=n_features", "+model.n_outputs=n_outputs"]
    outcome = multilayer("train", *QUICK, *network, *own)
    assert outcome.code == 0, outcome.err
    assert f"lockstep: the networks differ in {difference}: 2 stacks of 3 runs each" in outcome.out
    found = manifests(tmp_path)
    assert [(each["status"], each["members"]) for each in found] == [("done", 3)] * 6


@pytest.mark.parametrize(
    ("hook", "epoch"),
    [
        ("on_fit_start", 0),
        ("on_epoch_start", 2),
        ("on_validation_end", 2),
        ("on_epoch_end", 2),
        ("on_fit_end", 0),
        ("on_failure", -1),
    ],
)
def test_a_callback_that_raises_fails_its_own_run_alone(
    hook: str, epoch: int, multilayer: Run, tmp_path: Path
) -> None:
    """The others end as without it; what it had learnt is saved."""
    own = ["+callbacks.own._target_=tests.lockstep.callbacks.Raises", f"+callbacks.own.hook={hook}"]
    outcome = multilayer("train", *QUICK, *own, f"+callbacks.own.epoch=-1,{epoch},-1")
    failed = epoch >= 0
    assert outcome.code == failed, outcome.err
    statuses = ["done", "failed" if failed else "done", "done"]
    assert [each["status"] for each in manifests(tmp_path)] == statuses
    losses = [
        json.loads((tmp_path / "sweep" / str(job) / "metrics.json").read_text())["test"]["loss"]
        for job in (0, 2)
    ]
    assert losses[0] == losses[1]
    if failed:
        assert f"RuntimeError: no {hook} today" in outcome.err
        assert "multilayer: job 1 failed" in outcome.err
        assert f"no {hook} today" in manifests(tmp_path)[1]["stop_reason"]
    if epoch == 2:
        n_epochs = 1 if hook == "on_epoch_start" else 2
        assert manifests(tmp_path)[1]["steps"] == 2 * n_epochs
        assert multilayer("evaluate", "run=sweep/1").code == 0


def test_a_callback_of_lightnings_has_its_job_train_alone(multilayer: Run, tmp_path: Path) -> None:
    """In the same sweep, and it is called; the others stack."""
    own = "{_target_:tests.lockstep.callbacks.OfLightning}"
    outcome = multilayer("train", *QUICK, f"+callbacks.own={own},null", "seed=0,1")
    assert outcome.code == 0, outcome.err
    assert "lockstep: 1 stack of 2 runs" in outcome.out
    words = "lockstep: jobs 0 to 1 alone: callbacks.own is a callback of Lightning's"
    assert words in outcome.out
    assert [each.get("members") for each in manifests(tmp_path)] == [None, None, 2, 2]
    assert "seen" in (tmp_path / "sweep" / "0" / "history.csv").read_text()


def test_an_error_in_one_of_several_stacks_leaves_the_others(
    multilayer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs that were planned as one, whose networks differ."""
    begin = Stack.begin_epoch

    def begin_unless_dropping(stack: Stack) -> None:
        if stack.members()[0].config["model"]["dropout"]:
            raise RuntimeError("not this one")
        begin(stack)

    monkeypatch.setattr(Stack, "begin_epoch", begin_unless_dropping)
    network = [f"{OWN}.DropoutIfAny", "model=sequential", "~model._args_"]
    network += ["+model.n_features=n_features", "+model.n_outputs=n_outputs"]
    outcome = multilayer("train", *QUICK, *network, "+model.dropout=0.5,0", "seed=0,1")
    assert outcome.code == 1, outcome.err
    assert [each["status"] for each in manifests(tmp_path)] == ["failed"] * 2 + ["done"] * 2


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        (["trainer.max_steps=3", "engine=lockstep"], "trainer.max_steps=3"),
        (["hydra.job.chdir=true"], "hydra.job.chdir=true"),
        (["hydra.output_subdir=.hydra"], "hydra.output_subdir=.hydra"),
        (["+hydra.job.env_set.WORD=1"], "hydra.job.env_set"),
        (["data._target_=tests.lockstep.data.Noisy"], "data tests.lockstep.data.Noisy has a train"),
    ],
)
def test_what_hydra_or_lightning_must_do_is_done_alone(
    own: list[str], reason: str, multilayer: Run, tmp_path: Path
) -> None:
    """By Hydra's own way to run a job, and Lightning's engine."""
    outcome = multilayer("train", *QUICK, *own, "seed=0,1")
    assert outcome.code == 0, outcome.err
    assert f"lockstep: jobs 0 to 1 alone: {reason}" in outcome.out
    assert [each["status"] for each in manifests(tmp_path)] == ["done"] * 2
    assert len(list((tmp_path / "sweep").glob("*/.hydra"))) == 2 * ("output_subdir" in reason)


def test_a_broken_job_whose_folder_cannot_be_written_is_told(
    multilayer: Run, tmp_path: Path
) -> None:
    """And the others train."""
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "1").write_text("")
    outcome = multilayer("train", *QUICK, "data.folds=2,3", "data.fold=0,2")
    assert outcome.code == 1
    assert "job 1: data.fold=2" in outcome.err
    found = [(tmp_path / "sweep" / job / "manifest.json").is_file() for job in "02"]
    assert found == [True, True]


def test_a_folder_is_one_jobs_alone(multilayer: Run, tmp_path: Path) -> None:
    """A sweep of which two would write into one is refused, and nothing is left behind."""
    outcome = multilayer("train", *QUICK, "hydra.sweep.subdir=one", "seed=0,1")
    assert outcome.code == 2
    assert "one is job 0's: give each its hydra.sweep.subdir" in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_data_of_a_users_own_needs_no_seed_for_its_order(multilayer: Run, tmp_path: Path) -> None:
    """It has a default, as all but the target has."""
    data = ["data._target_=tests.lockstep.data.Small", "~data.shuffle_seed"]
    outcome = multilayer("train", *QUICK, *data, "seed=0,1")
    assert outcome.code == 0, outcome.err
    assert [each["members"] for each in manifests(tmp_path)] == [2, 2]


def test_a_stack_that_fails_leaves_the_other_stacks(
    multilayer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of its jobs has a folder and says why; a lack of memory says what to do."""
    begin = Stack.begin_epoch

    def begin_unless_wide(stack: Stack) -> None:
        first = stack.members()[0]
        if first.epoch == 1 and first.config["model"]["d_hidden"] == [8]:
            raise torch.OutOfMemoryError
        begin(stack)

    monkeypatch.setattr(Stack, "begin_epoch", begin_unless_wide)
    outcome = multilayer("train", *QUICK, "model.d_hidden=[8],[4]", "seed=0,1")
    assert outcome.code == 1
    found = manifests(tmp_path)
    assert [each["status"] for each in found] == ["failed", "failed", "done", "done"]
    assert "hydra.launcher.max_members=1" in found[1]["stop_reason"]
    assert outcome.err.count("jobs 0 to 1: a stack of 2 does not fit") == 1
    assert len(list(tmp_path.glob("sweep/*/checkpoints/last.ckpt"))) == 4


def test_a_run_that_is_there_is_kept(multilayer: Run, tmp_path: Path) -> None:
    """The same folder for another sweep is refused, and nothing is lost."""
    assert multilayer("train", *QUICK, "seed=0,1").code == 0
    before = [path.read_bytes() for path in sorted(tmp_path.glob("sweep/*/**/*")) if path.is_file()]
    outcome = multilayer("train", *QUICK, "seed=0,1", "optimizer.lr=0.5")
    assert outcome.code == 2
    assert "sweep holds another sweep: choose another folder" in outcome.err
    after = [path.read_bytes() for path in sorted(tmp_path.glob("sweep/*/**/*")) if path.is_file()]
    assert before == after


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (["compile=auto"], "not compiled: too few steps for it to pay"),
        (["compile=false"], "not compiled: compile=false"),
    ],
)
def test_it_is_said_whether_the_step_is_compiled(
    own: list[str], words: str, multilayer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the terminal and in the manifest; nothing has been compiled before."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    outcome = multilayer("train", *QUICK, *own, "seed=0,1")
    assert f"lockstep: {words}" in outcome.err
    assert {each["compiled"] for each in manifests(tmp_path)} == {False}


def test_where_compiling_fails_the_training_goes_on(
    multilayer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiler may be there and fail, which is said in one line."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", "/bin/false")
    outcome = multilayer("train", *QUICK, "compile=true", "seed=0,1")
    assert outcome.code == 0, outcome.err
    said = [line for line in outcome.err.splitlines() if line.startswith("lockstep: ")]
    assert said[:2] == [
        "lockstep: compiling the step of 2 members, for 2 steps ahead; it is used from step 0 on",
        "lockstep: waiting for the compiled step",
    ]
    assert said[2].startswith("lockstep: compiling failed, and the training goes on without: ")
    assert "No working C++ compiler found" in said[2]
    assert len(said) == 3
    assert "Traceback" not in outcome.err
    assert [each["compiled"] for each in manifests(tmp_path)] == [False, False]


@pytest.mark.parametrize("name", sorted(path.stem for path in conf_dir().glob("experiment/*.yaml")))
def test_each_experiment_runs_with_it(name: str, multilayer: Run, tmp_path: Path) -> None:
    """Those that are sweeps of their own, and those that are single runs, over two seeds.

    Without their figures, which take longer than the training.
    """
    words = ["train", f"experiment={name}", "hydra/launcher=lockstep", "hydra.sweep.dir=sweep"]
    is_sweep = "MULTIRUN" in (conf_dir() / "experiment" / f"{name}.yaml").read_text()
    own = [] if is_sweep else ["-m", "seed=0,1"]
    outcome = multilayer(*words, *own, "trainer.max_epochs=1", "callbacks=default")
    assert outcome.code == 0, outcome.err
    found = manifests(tmp_path)
    assert len(found) > 1
    assert all(each["status"] == "done" and each["members"] >= 1 for each in found)


def test_the_sweeper_may_hand_over_some_jobs_at_a_time(multilayer: Run, tmp_path: Path) -> None:
    """`max_batch_size`: each batch is planned by itself, and the numbers go on."""
    outcome = multilayer("train", *QUICK, "hydra.sweeper.max_batch_size=2", "seed=0,1,2")
    assert outcome.code == 0, outcome.err
    assert "lockstep: 1 stack of 2 runs" in outcome.out
    assert [each["members"] for each in manifests(tmp_path)] == [2, 2, 1]
    assert [each["seed"] for each in manifests(tmp_path)] == [0, 1, 2]


def test_an_interruption_loses_nothing(
    multilayer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C: each run says how far it came and goes on from there; later stacks do not begin."""
    begin = Stack.begin_epoch

    def begin_twice(stack: Stack) -> None:
        if stack.members()[0].epoch == 2:
            raise KeyboardInterrupt
        begin(stack)

    monkeypatch.setattr(Stack, "begin_epoch", begin_twice)
    several = ["trainer.max_epochs=5", "hydra.launcher.max_members=2", "seed=0,1,2,3"]
    outcome = multilayer("train", *QUICK, *several)
    assert outcome.code == 130
    assert "multilayer: interrupted" in outcome.err
    monkeypatch.setattr(Stack, "begin_epoch", begin)
    found = manifests(tmp_path)
    assert [(each["status"], each["steps"]) for each in found] == [("interrupted", 4)] * 2
    resumed = multilayer("train", "data=iris", "trainer.max_epochs=5", "resume=sweep/1", "seed=1")
    assert resumed.code == 0, resumed.err


def test_what_is_in_the_working_folder_is_found(multilayer: Run, tmp_path: Path) -> None:
    """A network and a file of the user's own; the file by its full name, as under any launcher."""
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n"
        "def wide(n_features, n_outputs):\n"
        "    return nn.Linear(n_features, n_outputs)\n"
    )
    network = ["model=sequential", "~model._args_", "model._target_=nets.wide"]
    network += ["+model.n_features=n_features", "+model.n_outputs=n_outputs"]
    assert multilayer("train", *QUICK, *network, "seed=0,1").code == 0
    assert [each["members"] for each in manifests(tmp_path)] == [2, 2]


@pytest.mark.parametrize("launcher", ["basic", "lockstep"])
def test_a_config_may_refer_to_its_jobs_number(
    launcher: str, multilayer: Run, tmp_path: Path
) -> None:
    """By Hydra's own resolver."""
    words = [f"hydra/launcher={launcher}", *QUICK[2:], "data.shuffle_seed=${hydra:job.num}"]
    outcome = multilayer("train", "-m", *words, "seed=5,6")
    assert outcome.code == 0, outcome.err
    configs = [(tmp_path / "sweep" / job / "config.yaml").read_text() for job in "01"]
    assert ["shuffle_seed: 0" in configs[0], "shuffle_seed: 1" in configs[1]] == [True, True]


def test_both_launchers_leave_the_same(multilayer: Run, iris_csv: Path, tmp_path: Path) -> None:
    """File names, configs and what manifests say, but for times; equal jobs are two jobs."""
    words = ["data=table", "data.path=iris.csv", "data.target=species", "data.shuffle_seed=1,1"]
    if iris_csv.name != "iris.csv":
        pytest.fail("the test names another file")
    left = {}
    for launcher in ("basic", "lockstep"):
        place = [f"hydra/launcher={launcher}", f"hydra.sweep.dir={launcher}"]
        outcome = multilayer("train", "-m", *words, *place, "trainer.max_epochs=2")
        assert outcome.code == 0, outcome.err
        folders = [tmp_path / launcher / str(job) for job in (0, 1)]
        left[launcher] = [
            (
                sorted(str(p.relative_to(f)) for p in f.rglob("*") if "tfevents" not in p.name),
                (f / "config.yaml").read_text(),
                json.loads((f / "manifest.json").read_text())["config_hash"],
            )
            for f in folders
        ]
    assert left["basic"] == left["lockstep"]


def test_a_folder_that_cannot_be_written_fails_its_own_run(multilayer: Run, tmp_path: Path) -> None:
    """A file is in its place; the basic launcher ends there, and says what was done."""
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "1").write_text("")
    basic = multilayer("train", "-m", *QUICK[2:], "seed=0,1")
    outcome = multilayer("train", *QUICK, "seed=0,1,2")
    assert (basic.code, outcome.code) == (2, 1)
    for each in (basic, outcome):
        assert "File exists: " in each.err
        assert "Traceback" not in each.err
        assert "sweep folder" in each.out
    done = [json.loads((tmp_path / "sweep" / job / "manifest.json").read_text()) for job in "02"]
    assert [each["status"] for each in done] == ["done", "done"]
