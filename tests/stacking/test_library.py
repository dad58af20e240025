"""Steps as shared libraries; that a compiled step is right is tested in `test_runner.py`."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep
from typing import Any

import pytest
import torch
from torch import Tensor

from multilayer.stacking.library import StepLibrary
from multilayer.stacking.library_build import LibraryBuild
from multilayer.stacking.tracing import trace
from multilayer.training.runtime import can_compile

pytestmark = pytest.mark.skipif(
    not can_compile(torch.device("cpu")), reason="there is no C++ compiler"
)

FACTOR = {0: 2.0, 1: 3.0}


def step(state: Tensor, rows: Tensor, is_on: Tensor) -> tuple[Tensor, Tensor]:
    """Some operations: a product, a constant, and a change in place."""
    product = torch.bmm(rows, rows.transpose(1, 2)) * torch.tensor([*FACTOR.values()]).view(2, 1, 1)
    state.add_(product.amax(dim=(1, 2)) * is_on)
    return rows.argmax(dim=2), rows.double().transpose(1, 2) / 3


def inputs_of(seed: int) -> list[Tensor]:
    """Its inputs, of several dtypes."""
    own = torch.Generator().manual_seed(seed)
    rows = torch.randn(2, 600, 300, generator=own)
    return [torch.randn(1, 2, generator=own), rows, torch.tensor([True, False])]


def build_of(
    function: Callable[..., tuple[Tensor, ...]] = step, inputs: Sequence[Tensor] = ()
) -> LibraryBuild:
    """The library of a function of such inputs, for two threads, or the making of it."""
    inputs = inputs or inputs_of(0)
    graph, outputs = trace(function, [each.clone() for each in inputs])
    build = LibraryBuild(graph, inputs, outputs, 2)
    build.start()
    return build


def load() -> StepLibrary:
    """The library of the step, which has been compiled before."""
    build = build_of()
    assert build.process is None
    return build.result()


def is_compiled_anew(**arguments: Any) -> bool:
    """Whether there is no library yet; what begins is ended at once."""
    build = build_of(**arguments)
    is_new = build.process is not None
    build.close()
    return is_new


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of torch's compiler, for all tests here."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder))
        yield folder


@pytest.fixture(scope="module")
def library(cache: Path) -> StepLibrary:
    """The step, compiled."""
    build = build_of()
    assert build.is_running()
    found = build.result()
    assert not build.is_running()
    assert build.path in (cache / "multilayer").iterdir()  # and what other tests have begun
    return found


def check(library: StepLibrary, seed: int) -> None:
    """It gives what the step gives, and changes what the step changes."""
    mine, its = inputs_of(seed), inputs_of(seed)
    for found, expected in zip(library(*mine), step(*its), strict=True):
        torch.testing.assert_close(found, expected)
    for found, expected in zip(mine, its, strict=True):
        torch.testing.assert_close(found, expected)


def test_a_library_does_what_the_graph_does(library: StepLibrary) -> None:
    """With other numbers too, and outputs that the next call leaves alone."""
    first = library(*inputs_of(1))[1]
    kept = first.clone()
    check(library, 2)
    assert torch.equal(first, kept)


def test_threads_call_it_at_the_same_time(library: StepLibrary) -> None:
    """More of them than it was made for, too: they wait."""
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(check, library, seed) for seed in range(200)]:
            done.result()


def test_other_processes_load_it_without_torchs_compiler(library: StepLibrary, cache: Path) -> None:
    """Which takes a second to import."""
    program = f"""
import sys
import torch
torch.set_num_threads({torch.get_num_threads()})
from tests.stacking.test_library import check, load
library = load()
print([name for name in ("torch._dynamo", "torch._inductor", "sympy") if name in sys.modules])
check(library, 3)
"""
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert found.stdout == "[]\n", found.stderr


def test_another_layout_is_refused(library: StepLibrary) -> None:
    """A library would read other numbers, or what is not the tensor's."""
    state, rows, is_on = inputs_of(0)
    for other in (
        rows.double(),
        rows[:, ::2],
        rows.transpose(1, 2).contiguous().transpose(1, 2),
    ):
        with pytest.raises(ValueError, match="compiled for"):
            library(state, other, is_on)


def test_a_stride_that_is_never_taken_may_be_another(library: StepLibrary) -> None:
    """A slice of one member has the stride of several."""
    state, rows, is_on = inputs_of(0)
    slice_ = state.repeat(1, 2).view(1, 2, 2)[:, 1]
    assert slice_.stride() != state.stride()
    library(slice_, rows, is_on)
    library(state, rows, is_on)
    assert torch.equal(slice_, state)


def test_another_graph_or_shape_is_another_library(library: StepLibrary) -> None:
    """What differs in either is compiled anew."""

    def other(state: Tensor, rows: Tensor, is_on: Tensor) -> tuple[Tensor, Tensor]:
        return step(state, rows, is_on.logical_not())

    assert not is_compiled_anew()
    state, rows, is_on = inputs_of(0)
    assert is_compiled_anew(inputs=[state, rows.repeat(1, 2, 1), is_on])
    assert is_compiled_anew(function=other)


def test_a_constant_is_not_part_of_it(
    library: StepLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps that differ in it alone share a library, and each has its own."""
    monkeypatch.setitem(FACTOR, 1, 5.0)
    check(load(), 4)
    monkeypatch.undo()
    check(library, 4)


def test_what_needs_python_is_no_library(cache: Path) -> None:
    """An operation without a C interface would end the process; it is not tried again."""

    def odd(state: Tensor, rows: Tensor, is_on: Tensor) -> tuple[Tensor, Tensor]:
        return torch.special.i1(state), torch.linalg.eigvalsh(rows[:, :4, :4])

    before = {*cache.glob("multilayer/*")}
    for is_first in (True, False):
        build = build_of(odd)
        assert build.is_running() == is_first
        with pytest.raises(RuntimeError, match="an operation that needs Python"):
            build.result()
    (new,) = {*cache.glob("multilayer/*")} - before
    assert new.suffix == ".python"


def test_it_runs_while_others_run_python(library: StepLibrary) -> None:
    """A call that kept the GIL would let no other thread count."""
    inputs, counts, is_over = inputs_of(0), [0], Event()

    def count() -> None:
        while not is_over.is_set():
            counts[0] += 1
            sleep(0)  # it gives up the GIL each time

    interval = sys.getswitchinterval()
    thread = Thread(target=count)
    thread.start()
    sys.setswitchinterval(3600)
    try:
        found = []
        for _ in range(200):
            before = counts[0]
            library(*inputs)
            found.append(counts[0] - before)
    finally:
        sys.setswitchinterval(interval)
        is_over.set()
        thread.join()
    assert max(found) > 20  # a few are while the outputs are made


def test_a_damaged_library_is_made_anew(
    library: StepLibrary, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been cut short by a crash."""
    (whole,) = (cache / "multilayer").glob("*.so")
    damaged = tmp_path / "multilayer" / whole.name
    damaged.parent.mkdir()
    damaged.write_bytes(whole.read_bytes()[:10])
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    assert is_compiled_anew()
    assert not damaged.exists()


def test_folders_that_others_can_write_to_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library runs as whoever loads it."""
    root = tmp_path / "root"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(root))
    folder = root / "multilayer"
    for other in (root, folder):
        other.mkdir()
        other.chmod(0o777)
        with pytest.raises(OSError, match=f"{other}: others can write to it"):
            build_of()
        other.chmod(0o700)
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(OSError, match=f"{folder}: others can write to it"):
        build_of()


def test_a_failing_compiler_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own first line, and nothing is left behind."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("CXX", "/bin/false")
    build = build_of()
    with pytest.raises(RuntimeError, match="No working C\\+\\+ compiler found"):
        build.result()
    assert not build.is_running()
    assert not [*(tmp_path / "multilayer").iterdir()]


PARENT = """
import sys
from tests.stacking.test_library import build_of
build = build_of()
print(build.process.pid, flush=True)
sys.stdin.read()
"""


def test_no_compiler_outlives_who_asked_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it was killed; and no library is left."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    pipe = subprocess.PIPE
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdin=pipe, stdout=pipe, text=True)
    assert parent.stdout is not None
    compiler = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    begun = monotonic()
    while is_running(compiler):
        assert monotonic() - begun < 30
        sleep(0.02)
    assert not [*(tmp_path / "multilayer").iterdir()]


def is_running(pid: int) -> bool:
    """Whether a process runs; one that has ended may wait for who looks at it."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
