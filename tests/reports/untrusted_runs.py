"""Malicious sweep folders, drawn from a seed each."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from multilayer.core.files import partial_of

from .fake_sweeps import write_noted, write_run

NAMES = [
    "../../canary/x",
    "/etc/x",
    "a/../../b",
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x9b31m",
    "\u202etxt.exe\u2066",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "](http://evil.example/) ![x](http://evil.example/y.png)",
    "`code` | cell | *bold* ~~x~~ _y_",
    "```\n# heading\n- item",
    "line\nbreak\r\nand\ttab",
    "$\\frac{$",
    "$" * 5,
    "\\|<b>",
    "",
    " ",
    "-",
    "_under",
    "é中文🙂\u200b",
    "\ud800",
    "\x00null",
    "x" * 3000,
    "=cmd|' /C calc'!A0",
    "[bold red]rich[/bold red]",
    "optimizer.lr",
    "run",
    "status",
    "rank",
]
"""What stands where a key, a value, a metric, a status or a reason stands."""

NUMBERS: list[Any] = [
    0, -0.0, 1, -1, 0.1, 1e-3, 1e300, -1e300, 5e-324, 1e-200, 10**30, 10**400, -(10**400), 2**63,
    float("nan"), float("inf"), float("-inf"), True, None, "1", [], {}, [[1], [2]], "1e400",
]  # fmt: skip

YAML = [
    "a: &a [*a]\n",
    "a: &a {b: *a}\n",
    "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "[" * 50_000,
    "{a: " * 50_000,
    "- " * 50_000,
    "? " * 50_000,
    "x: " + "[" * 49 + "]" * 49 + "\n",
    "x: !!int ''\n",
    "x: !!timestamp z\n",
    "x: !!python/object/apply:os.system [true]\n",
    "x: " + "1:" * 50_000 + "1\n",
    "x: 0x" + "f" * 9_000 + "\n",
    "x: 2026-99-99\n",
    "x: !!set {a, b}\n",
    "x: !!binary aGVsbG8=\n",
    "x: .nan\ny: .inf\n",
    "1: 2\n? [1, 2]\n: 3\n",
    "a:\n" * 3_000,
    "null\n",
    "--- 1\n--- 2\n",
    "\ufeffa: 1\n",
]

JSON = [
    "[" * 100_000,
    '{"a":' * 5_000 + "1" + "}" * 5_000,
    '{"status": "done", "overrides": ["\\ud800=\\u0000"]}',
    '{"status": "done", "overrides": [1]}',
    '{"status": "\\u001b[31m", "overrides": []}',
    '{"status": ["done"], "overrides": []}',
    '{"status": "done", "overrides": [], "fit_seconds": NaN, "best_epoch": 1e999}',
    '{"status": "done", "overrides": [], "steps": %s}' % ("9" * 5_000),
    '{"validation": {"loss": "\\u001b[31m"}}',
    '{"validation": {"loss": 1e999}, "\\u001b[2J": {"\\u202e": 1}}',
    "null",
    "",
    "\x00",
]

COMMANDS: list[Any] = [
    ["seed=range(1000000000)"],
    ["seed=range(1000000000)", "a=range(1000000000)"],
    ["seed=range(0,1,1e-300)"],
    ["seed=range(0,1,0)"],
    ["seed=range(nan,inf)"],
    ["a=" + "[" * 5_000],
    ["a=1," * 9_000],
    ["a=glob(*)"],
    ["\x1b[31m=1,2"],
    "not a list",
    [1, None],
    {"a": 1},
]


def link(path: Path, target: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def large(path: Path) -> None:
    path.write_bytes(b"a: 1\n" * 2_000_000)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**36)


def write_untrusted(sweep: Path, canary: Path, seed: int) -> None:
    """A sweep of some runs, a few of them sound, and some damage or malice."""
    rng = random.Random(seed)
    for number in range(rng.randint(2, 6)):
        write_random_run(sweep / name_of_run(rng, number), rng)
    if rng.random() < 0.8:
        for number in range(2):
            write_run(sweep / str(100 + number), 0.1 + number, optimizer__lr=0.1, seed=number)
    if rng.random() < 0.7:
        write_noted(sweep, rng.choice(COMMANDS))
    for _ in range(rng.randint(0, 3)):
        damage(sweep, canary, rng)


def name_of_run(rng: random.Random, number: int) -> str:
    """A number mostly; a name that a file system takes otherwise."""
    if rng.random() < 0.6:
        return str(number)
    name = rng.choice(NAMES).replace("/", "_").replace("\x00", "0").encode("utf-8", "ignore")
    return os.fsdecode(name[:60] + rng.choice([b"", b"\xff\xfe", b"\xc2\xb2"])) + f" {number}"


def write_random_run(path: Path, rng: random.Random) -> None:
    """A run whose keys, values, metrics and reasons are any of the above."""
    keys = rng.sample(NAMES, 3)
    values = [rng.choice(NUMBERS + NAMES) for _ in keys]
    config = {
        "monitor": "validation/loss" if rng.random() < 0.9 else rng.choice(NAMES),
        "mode": rng.choice(["min", "max", "\x1b[31m"]),
        "seed": rng.choice([0, 1, *NUMBERS]),
        "optimizer": {"lr": rng.choice(NUMBERS)},
        "trainer": {"max_epochs": rng.choice([10, *NUMBERS])},
        "callbacks": rng.choice([{}, None, {"a": {"_target_": "\x1b[31m"}}, {"a": 1}]),
        "logger": rng.choice([{}, None, 3, {"a": {"_target_": "multilayer.training.TensorBoard"}}]),
        "data": rng.choice([{}, 3, {"folds": rng.choice(NUMBERS)}]),
    }
    config |= dict(zip(keys, values, strict=True))
    path.mkdir(parents=True)
    text = yaml.dump(config, Dumper=yaml.SafeDumper, allow_unicode=False)
    (path / "config.yaml").write_text(text)
    overrides = [f"{key}={rng.choice(NAMES)}" for key in keys]
    overrides += [f"seed={config['seed']}"[:50], f"optimizer.lr={config['optimizer']['lr']}"[:50]]  # type: ignore[index]
    manifest: dict[str, Any] = {
        "status": rng.choice(["done", "done", "done", "failed", "diverged", "running", "\x1b[31m"]),
        "overrides": overrides,
        "stop_reason": rng.choice([None, *NAMES]),
        "started": rng.choice([None, *NAMES]),
        "data_fingerprint": rng.choice([None, "a", "\x1b[31m"]),
    }
    manifest["stack"] = manifest["started"]
    for key in ("best_epoch", "fit_seconds", "members", "steps", "stack_seconds"):
        manifest[key] = rng.choice([None, 1, rng.choice(NUMBERS)])
    (path / "manifest.json").write_text(json.dumps(manifest))
    metrics = {
        split: {name: rng.choice([0.1, 0.5, *NUMBERS[:16]]) for name in ("loss", "accuracy", key)}
        for split, key in zip(("validation", "train", "test"), keys, strict=True)
    }
    (path / "metrics.json").write_text(json.dumps(metrics))
    write_curves(path, rng)


def write_curves(path: Path, rng: random.Random) -> None:
    """Histories, some of them sound."""
    if rng.random() < 0.5:
        cells = ["0", "1", "1e400", "nan", "x", "", str(10**30), "-5", "\x1b[31m"]
        rows = [f"{rng.choice(cells)},{rng.choice(cells)},{rng.choice(cells)}" for _ in range(9)]
        text = "\n".join(["epoch,train/loss,validation/loss", "1,0.5,0.5", *rows, ""])
        (path / "history.csv").write_text(text)
    elif rng.random() < 0.5:
        (path / "history.csv").write_bytes(rng.randbytes(rng.randint(0, 200)))


def damage(sweep: Path, canary: Path, rng: random.Random) -> None:
    """One of the things that are done to a folder, of the sweep or of a run in it."""
    runs = [path for path in sorted(sweep.iterdir()) if path.is_dir() and not path.is_symlink()]
    run = rng.choice(runs)
    small = rng.choice(["config.yaml", "manifest.json", "metrics.json", "multirun.yaml"])
    file = (sweep if small == "multirun.yaml" else run) / small
    if file.is_dir():
        return
    history = run / "history.csv"
    kinds: list[Callable[[], Any]] = [
        lambda: pipe(file),
        lambda: folder(file),
        lambda: large(file),
        lambda: sparse(file),
        lambda: link(file, Path("/dev/zero")),
        lambda: link(file, file),
        lambda: link(file, sweep / "nowhere"),
        lambda: link(file, canary / "secret.txt"),
        lambda: file.write_bytes(rng.randbytes(500)),
        lambda: file.write_text(rng.choice(YAML)),
        lambda: file.write_text(rng.choice(JSON)),
        lambda: link_output(sweep, canary, rng),
        lambda: link_figures(sweep, canary, rng),
        lambda: pipe(history),
        lambda: sparse(history),
        lambda: link(run / "loop", run),
        lambda: link(sweep / "above", sweep.parent),
    ]
    rng.choice(kinds)()


def link_output(sweep: Path, canary: Path, rng: random.Random) -> None:
    """What the report writes is a link already, to a file or to where a file would be made."""
    name = rng.choice(["report.md", "runs.csv", "runs.parquet", "configs.csv"])
    target = rng.choice([canary / "secret.txt", canary / "new", canary])
    partial = partial_of(sweep / name).name
    link(sweep / rng.choice([name, partial]), target)


def link_figures(sweep: Path, canary: Path, rng: random.Random) -> None:
    """The folder of the figures is a link, or holds some, or is a file."""
    figures = sweep / "figures"
    if figures.exists() or figures.is_symlink():
        return
    kind = rng.randrange(3)
    if kind == 0:
        link(figures, canary)
    elif kind == 1:
        figures.mkdir()
        for name in ("heat_map.png", "metric_by_optimizer.lr.png", "learning_curves.png"):
            link(figures / name, canary / rng.choice(["metric_by_mine.png", "new"]))
    else:
        figures.write_text("a file")
