"""The report as Markdown, and its beginning in the terminal."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.table import Table

from multilayer.core.errors import listed
from multilayer.core.metric_names import units_note
from multilayer.core.text import counted, plural, sanitize
from multilayer.plotting.style import TURN
from multilayer.reports import findings as thresholds
from multilayer.reports.by_data import Part
from multilayer.reports.configs import (
    N_RESAMPLES,
    ConfigResult,
    Configs,
    SeedStats,
    best_command,
    format_number,
    format_range,
    tied_best,
)
from multilayer.reports.effects import EQUIVALENT
from multilayer.reports.hyperparameters import EDGE, format_value
from multilayer.reports.markup import code_block, escape, paragraph, to_table
from multilayer.reports.runs import SPLITS, STATUSES, TEST_OF_REFIT, SweepRun
from multilayer.reports.sweep import Sweep
from multilayer.runs.console import console, print_table

_MAX_NAMES = 20
"""Names of runs in a line."""

_MAX_PRINTED = 10
"""Configs that are printed."""

_MAX_ROWS = 50
"""Rows of a table in the report; the CSV files have all."""

_HOW_COMPUTED = Path(__file__).with_name("how_computed.md")

_DIFFERENT_DATA = "the runs are of different data, and those of each are compared by themselves"


def to_markdown(sweep: Sweep, parts: Sequence[Part], captions: Sequence[dict[str, str]]) -> str:
    """The whole report; `captions` are those of each part's figures, by their paths."""
    texts = [
        f"# Sweep {escape(sanitize(sweep.folder.resolve().name))}",
        "**The sweep is still running: all below is of the runs so far.**" * bool(sweep.running),
        paragraph(_state_lines(sweep, parts)),
        *(f"**Caution: {escape(warning)}.**" for warning in _warnings(sweep, parts)),
        *_what_varied(sweep),
    ]
    for part, own in zip(parts, captions, strict=True):
        found = _part(part, own)
        if part.name:
            deeper = [f"#{text}" if text.startswith("##") else text for text in found]
            found = [f"## {escape(part.name)}", *deeper]
        texts += found
    texts += [*_bad_ends(sweep), _how_computed(sweep)]
    return "\n\n".join(filter(None, texts)) + "\n"


def _warnings(sweep: Sweep, parts: Sequence[Part]) -> list[str]:
    """What a reader must know before any ranking."""
    return [_DIFFERENT_DATA] * (len(parts) > 1) + sweep.warnings


def _part(part: Part, captions: dict[str, str]) -> list[str]:
    """What is said of runs that can be compared; of each figure by its path."""
    figures = (
        f"![{Path(path).stem}]({path})\n\n*{escape(caption)}.*"
        for path, caption in captions.items()
    )
    bullets = (f"- **{escape(title)}**: {escape(text)}." for title, text in part.findings)
    return [
        *_best_config(part.sweep, part.configs, part.verdict),
        *_section("Findings", bullets, "\n"),
        *_section("Figures", figures),
        *_configs(part.sweep, part.configs),
        *_metrics(part.sweep, part.configs),
    ]


def print_summary(sweep: Sweep, parts: Sequence[Part]) -> None:
    """Print the best configs, the command for the best, and the findings."""
    out = console()
    if sweep.running:
        out.print("the sweep is still running: these are the runs so far", style="bold")
    for warning in _warnings(sweep, parts):
        out.print(f"caution: {warning}", style="bold red")
    state = _state_lines(sweep, parts)
    for part in parts:
        if part.name:
            out.print(f"\n{part.name}", style="bold")
        _print_part(part, state if len(parts) == 1 else [])
    for line in state if len(parts) > 1 else ():
        out.print(line)


def _print_part(part: Part, state: Sequence[str]) -> None:
    """Print what is said of runs that can be compared; `state` follows the table."""
    out, sweep, configs = console(), part.sweep, part.configs
    more, n_best = len(configs) - _MAX_PRINTED, len(tied_best(configs))
    table = Table(*_config_header(sweep), header_style="bold")
    for rank, config in enumerate(configs[:_MAX_PRINTED], start=1):
        style = "green" if rank <= n_best else None
        table.add_row(*_config_cells(rank, config), style=style)
    print_table(out, table)
    if more > 0:
        out.print(f"and {more} more, in configs.csv")
    for line in [*_legend(sweep, configs), *_stack_lines(sweep), *state]:
        out.print(line)
    command = best_command(configs, sweep)
    if command:
        out.print(f"\nbest     {command}", style="bold")
    out.print(part.verdict)
    if part.findings:
        out.print()
    for finding in part.findings:
        out.print(f"- {finding.title}: {finding.text}")


def _state_lines(sweep: Sweep, parts: Sequence[Part]) -> list[str]:
    """The numbers of runs by status, and the names of those that are not done."""
    named = {
        status: [run.name for run in sweep.runs if run.status == status] for status in STATUSES
    }
    planned = f" of {sweep.n_planned} planned" if sweep.n_planned else ""
    counts = ", ".join(f"{len(runs)} {status}" for status, runs in named.items() if runs)
    lines = [f"{counted(len(sweep.runs) + len(sweep.broken), 'run')}{planned}: {counts}"]
    done, _ = named.pop("done"), named.pop("running")
    compared = [(run, part.sweep.metric) for part in parts for run in part.sweep.runs]
    without_score = {run.name for run, metric in compared if run.metric(metric) is None}
    named[f"done, but without {sweep.metric}"] = [name for name in done if name in without_score]
    without_curves = [name for name in done if name not in sweep.curves]
    named["done, but without history.csv, thus no curves"] = without_curves
    refitted = {run.name for run in sweep.runs if not run.has_refit or TEST_OF_REFIT in run.metrics}
    named["done, but not their refits"] = [name for name in done if name not in refitted]
    named["running"] = sweep.running
    if sweep.stalled:
        hours = int(min(sweep.stalled.values()) // 3600)
        ago = f"{hours} h" if hours < 48 else f"{hours // 24} days"
        named[f"running, or killed: nothing written for {ago}"] = list(sweep.stalled)
    named["broken, left out"] = list(sweep.broken)
    lines += [f"{what}: {_names(runs)}" for what, runs in named.items() if runs]
    n_missing, first = sweep.missing(_MAX_NAMES)
    if n_missing:
        lines.append(f"missing: {_names(first, n_missing) if first else n_missing}")
    return lines


def _names(runs: Sequence[str], n: int | None = None) -> str:
    """The number of runs and their names, the first of many; n: where `runs` are not all.

    >>> _names(["3", "5"]), _names(["3"]), _names(["1", "2"], 9)
    ('2 (runs 3, 5)', '1 (run 3)', '9 (runs 1, 2 and 7 more)')
    """
    n, shown = n or len(runs), runs[:_MAX_NAMES]
    more = f" and {n - len(shown)} more" if n > len(shown) else ""
    return f"{n} ({plural('run', n)} {listed(shown)}{more})"


def _what_varied(sweep: Sweep) -> list[str]:
    """A row for each hyperparameter, and how many seeds."""
    seeds, word = len(set(map(sweep.seed_of, sweep.runs))), sweep.seed_word
    folded = f"Folded: {seeds} {word}s." if seeds > 1 else "One seed: no spread is known."
    if not sweep.hyperparameters:
        return ["## What varied", f"Nothing but the {word}. {folded}" if seeds > 1 else "Nothing."]
    rows = []
    for each in sweep.hyperparameters:
        values = list(map(format_value, each.values))
        shown = ", ".join(values[:10]) + (f", … {values[-1]}" if values[10:] else "")
        spacing = "by factors" if each.is_log else "by steps" if each.is_number else "choices"
        rows.append([each.key, str(len(values)), spacing, shown])
    for key in sweep.derived:
        derived = [run.value(key) for run in sweep.runs]
        rows.append([key, str(len(set(derived))), "not swept", format_range(derived)])
    return ["## What varied", to_table(["hyperparameter", "values", "spaced", ""], rows), folded]


def _best_config(sweep: Sweep, configs: Configs, verdict: str) -> list[str]:
    """The best config, the command that trains it, and whether it can be told from the second."""
    command = best_command(configs, sweep)
    if command is None:
        return ["## Best config", escape(verdict)]
    best = configs[0]
    return [
        "## Best config",
        code_block(command),
        f"{escape(sweep.metric)} {_format_stats(best.score)}, n = {len(best.scores)}. "
        f"It has the best mean of {escape(sweep.metric)} ({sweep.mode}). {escape(verdict)}",
        _tested(best),
    ]


def _tested(best: ConfigResult) -> str:
    """The metrics of the best config on the test rows, and those of its refits."""
    words = []
    for split in ("test", TEST_OF_REFIT):
        own = [name for name in best.stats if name.startswith(f"{split}/")]
        shown = (f"{name.partition('/')[2]} {_format_stats(best.stats[name])}" for name in own)
        words.append("; ".join(map(escape, shown)))
    test, refit = words
    after = f" After the refit: {refit}." if refit else ""
    return f"On the test rows, by which nothing was chosen: {test}.{after}" if test else ""


def _section(title: str, parts: Iterable[str], between: str = "\n\n") -> list[str]:
    """A section, unless it is empty."""
    text = between.join(parts)
    return [f"## {title}", text] if text else []


def _configs(sweep: Sweep, configs: Configs) -> list[str]:
    """The configs, best first: the compared metric, how the runs ended, and their time."""
    rows = [_config_cells(rank, each) for rank, each in enumerate(configs[:_MAX_ROWS], start=1)]
    rest = f" The best {_MAX_ROWS} of {len(configs)} are here;" if len(configs) > _MAX_ROWS else ""
    stacked = [run for run in sweep.runs if run.in_stack]
    time = "that of a run" + (", in a stack its share" if stacked else "")
    if any(run.seconds is None for run in stacked):
        time += " (not known where an earlier version trained the stack)"
    about = (
        f"Mean ± standard deviation over n {sweep.seed_word}s [95 % interval of the mean]; the "
        f"time is {time}, in the mean.{rest} `configs.csv` has each number by itself, `runs.csv` "
        "each run."
    )
    return [
        "## Configs",
        about,
        to_table(_config_header(sweep), rows),
        paragraph(_stack_lines(sweep)),
    ]


def _legend(sweep: Sweep, configs: Configs) -> list[str]:
    """What the numbers in the table of configs are, as far as it has them."""
    scores = [config.score for config in configs[:_MAX_PRINTED]]
    n_seeds = [score.n for score in scores if score and score.std is not None]
    lines = []
    if n_seeds:
        seeds = f"{sweep.seed_word}s"
        interval = "95 % interval of the mean" + f", from 3 {seeds} on" * (min(n_seeds) < 3)
        lines.append(f"{sweep.metric}: mean ± standard deviation over n {seeds} [{interval}]")
    return [*lines, *filter(None, [_units_note(sweep)])]


def _units_note(sweep: Sweep) -> str:
    """What is said of the units of a regression's errors."""
    return units_note([name.rpartition("/")[2] for name in sweep.metric_names])


def _stack_lines(sweep: Sweep) -> list[str]:
    """The time of each stack, of which the table has the shares."""
    stacks: dict[str, list[SweepRun]] = {}
    for run in sweep.runs:
        if run.in_stack and run.manifest.get("stack") and run.stack_seconds is not None:
            stacks.setdefault(run.manifest["stack"], []).append(run)
    return [
        f"time of the stack of {_names([run.name for run in runs])}: "
        f"{format_number(max(run.stack_seconds or 0.0 for run in runs))} s"
        for runs in list(stacks.values())[:_MAX_NAMES]
    ]


def _config_header(sweep: Sweep) -> list[str]:
    """The columns of the table of configs, here and in the terminal."""
    swept = [each.key for each in sweep.hyperparameters]
    return ["", *swept, *sweep.derived, sweep.metric, "n", "status", "time (s)"]


def _config_cells(rank: int, config: ConfigResult) -> list[str]:
    """A row of this table."""
    return [
        str(rank),
        *map(format_value, config.values.values()),
        *config.derived.values(),
        _format_stats(config.score),
        str(len(config.scores)),
        config.status_text,
        format_number(config.seconds),
    ]


def _metrics(sweep: Sweep, configs: Configs) -> list[str]:
    """Every final metric, a table for each split."""
    parts = ["## Every metric"] if sweep.metric_names else []
    if note := _units_note(sweep):
        parts.append(f"{note.capitalize()}.")
    for split in SPLITS:
        own = [name for name in sweep.metric_names if name.startswith(f"{split}/")]
        rows = [
            [str(rank), *map(format_value, config.values.values())]
            + [_format_stats(config.stats.get(name)) for name in own]
            for rank, config in enumerate(configs[:_MAX_ROWS], start=1)
        ]
        if own:
            header = ["", *configs[0].values, *(name.partition("/")[2] for name in own)]
            parts += [f"### {split.capitalize()}", to_table(header, rows)]
    return parts


def _bad_ends(sweep: Sweep) -> list[str]:
    """The runs that did not come to a good end, and why."""
    ended = [run for run in sweep.runs if run.status in ("failed", "interrupted", "diverged")]
    rows = [
        [run.name, " ".join(run.manifest["overrides"]), run.status, run.stop_reason or "-"]
        for run in ended[:_MAX_ROWS]
    ]
    rows += [[name, "-", "broken", reason] for name, reason in sweep.broken.items()][:_MAX_ROWS]
    if not rows:
        return []
    more = len(ended) - _MAX_ROWS
    rest = f"{more} more are in `runs.csv`." if more > 0 else ""
    header = ["run", "overrides", "status", "reason"]
    return ["## Runs that did not end well", to_table(header, rows), rest]


def _how_computed(sweep: Sweep) -> str:
    """The methods and the thresholds: the text of `how_computed.md` with its numbers."""
    return (
        _HOW_COMPUTED.read_text(encoding="utf-8")
        .strip()
        .format(
            metric=escape(sweep.metric),
            seed=sweep.seed_word,
            n_resamples=N_RESAMPLES,
            edge=EDGE,
            equivalent=EQUIVALENT,
            bounds=thresholds,
            turn=TURN,
        )
    )


def _format_stats(stats: SeedStats | None) -> str:
    """Mean, standard deviation and interval, as far as they are known.

    >>> _format_stats(SeedStats.of([1.0, 1.0, 1.0])), _format_stats(SeedStats.of([2.0]))
    ('1 ± 0 [1, 1]', '2')
    >>> _format_stats(SeedStats.of([1.0, 3.0])), _format_stats(None)
    ('2 ± 1.4 [n too small]', '-')
    """
    if stats is None or stats.std is None:
        return format_number(stats.mean) if stats else "-"
    is_known = stats.low is not None
    ends = f"{format_number(stats.low)}, {format_number(stats.high)}"
    return f"{format_number(stats.mean)} ± {stats.std:.2g} [{ends if is_known else 'n too small'}]"
