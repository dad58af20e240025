"""The report as Markdown."""

from collections.abc import Iterable, Sequence

from multilayer.sweeps.candidates import Candidate
from multilayer.sweeps.figures import Picture
from multilayer.sweeps.findings import bounds
from multilayer.sweeps.findings.finding import Finding, number
from multilayer.sweeps.folding import N_RESAMPLES
from multilayer.sweeps.settings import word
from multilayer.sweeps.sweep import Sweep
from multilayer.sweeps.table import SPLITS, mean_seconds, metric_names
from multilayer.sweeps.verdict import best_command, in_words

MOST_ROWS = 50
"""Of a table in the report; the files beside it have all."""


def to_markdown(
    sweep: Sweep,
    candidates: Sequence[Candidate],
    verdict: str,
    findings: Sequence[Finding],
    pictures: Sequence[Picture],
) -> str:
    """The whole report."""
    parts = [
        f"# Sweep {sweep.folder.resolve().name}",
        *state_of(sweep),
        *what_varied(sweep),
        *best_config(sweep, candidates, verdict),
        *findings_part(findings),
        *figures_part(sweep, pictures),
        *configs_part(sweep, candidates),
        *metrics_part(sweep, candidates),
        *runs_part(sweep),
        how_computed(sweep),
    ]
    return "\n\n".join(parts) + "\n"


def state_of(sweep: Sweep) -> list[str]:
    """How many runs there are, and which are not done, by name."""
    lines = state_lines(sweep)
    note = "**The sweep is still running: all below is of the runs so far.**"
    return ([note] if "running" in sweep.counts else []) + ["  \n".join(lines)]


def state_lines(sweep: Sweep) -> list[str]:
    """The numbers of runs by status, and the names of those that are not done.

    Shared with what the command prints.
    """
    n = len(sweep.runs) + len(sweep.broken)
    planned = f" of {sweep.n_planned} planned" if sweep.n_planned else ""
    counts = ", ".join(f"{count} {name}" for name, count in sweep.counts.items())
    lines = [f"{n} runs{planned}: {counts}"]
    for status in sweep.counts:
        if status != "done":
            lines.append(f"{status}: {names(sweep.named(status))}")
    if sweep.broken:
        lines.append(f"broken, left out: {names(list(sweep.broken))}")
    if sweep.n_missing:
        lines.append(f"missing: {names(sweep.missing) if sweep.missing else sweep.n_missing}")
    return lines


def names(runs: Sequence[str], limit: int = 20) -> str:
    """The number of runs and their names, the first of many.

    >>> names(["3", "5"]), names(["3"])
    ('2 (runs 3, 5)', '1 (run 3)')
    """
    more = f" and {len(runs) - limit} more" if len(runs) > limit else ""
    return f"{len(runs)} (run{'s' if len(runs) > 1 else ''} {', '.join(runs[:limit])}{more})"


def what_varied(sweep: Sweep) -> list[str]:
    """A row for each setting, and how many seeds."""
    seeds = len(set(sweep.replicates))
    folded = f"Folded: {seeds} seeds." if seeds > 1 else "One seed: no spread is known."
    if not sweep.settings:
        return ["## What varied", f"Nothing but the seed. {folded}" if seeds > 1 else "Nothing."]
    rows = []
    for setting in sweep.settings:
        levels = [word(level) for level in setting.levels]
        shown = ", ".join(levels[:10]) + (f", … {levels[-1]}" if levels[10:] else "")
        spacing = "by factors" if setting.is_log else "by steps" if setting.is_number else "choices"
        rows.append([f"`{setting.key}`", str(len(levels)), spacing, shown])
    return ["## What varied", table(["setting", "values", "spaced", ""], rows), folded]


def best_config(sweep: Sweep, candidates: Sequence[Candidate], verdict: str) -> list[str]:
    """The best config, the command that trains it, and whether it can be told from the second."""
    command = best_command(candidates, sweep)
    if command is None:
        return ["## Best config", verdict]
    best = candidates[0]
    test = [
        f"{name.partition('/')[2]} {in_words(best.metric(name))}"
        for name in metric_names(sweep)
        if name.startswith("test/")
    ]
    lines = [
        "## Best config",
        f"```bash\n{command}\n```",
        f"{sweep.metric} {in_words(best.score)}, n = {best.score.n if best.score else 0}. "
        f"It has the best mean of {sweep.metric} ({sweep.mode}). {verdict}",
    ]
    if test:
        lines.append(f"On the test rows, by which nothing was chosen: {'; '.join(test)}.")
    return lines


def findings_part(findings: Sequence[Finding]) -> list[str]:
    """A bullet for each finding."""
    if not findings:
        return []
    return ["## Findings", "\n".join(f"- **{it.title}**: {it.text}." for it in findings)]


def figures_part(sweep: Sweep, pictures: Sequence[Picture]) -> list[str]:
    """The figures, each with what it shows."""
    if not pictures:
        return []
    shown = [
        f"![{it.caption}]({it.path.relative_to(sweep.folder).as_posix()})\n\n*{it.caption}.*"
        for it in pictures
    ]
    return ["## Figures", *shown]


def configs_part(sweep: Sweep, candidates: Sequence[Candidate]) -> list[str]:
    """The configs, best first: the compared metric, how the runs ended, and their time."""
    keys = [setting.key for setting in sweep.settings]
    header = ["", *keys, sweep.metric, "n", "status", "time (s)"]
    rows = [
        [
            str(rank),
            *(word(level) for level in it.choice.values()),
            in_words(it.score),
            str(it.score.n if it.score else 0),
            it.states(),
            number(mean_seconds(it)),
        ]
        for rank, it in enumerate(candidates[:MOST_ROWS], start=1)
    ]
    return ["## Configs", explain_rows(len(candidates)), table(header, rows)]


def explain_rows(n_rows: int) -> str:
    """What a cell says, and where the rest of the rows are."""
    rest = f" The best {MOST_ROWS} of {n_rows} are here;" if n_rows > MOST_ROWS else ""
    return (
        "Mean ± standard deviation over n seeds [95 % interval of the mean]; the time is the mean "
        f"of a run.{rest} `configs.csv` has each number by itself, `runs.csv` each run."
    )


def metrics_part(sweep: Sweep, candidates: Sequence[Candidate]) -> list[str]:
    """Every final metric, a table for each split."""
    parts = ["## Every metric"] if metric_names(sweep) else []
    keys = [setting.key for setting in sweep.settings]
    for split in SPLITS:
        own = [name for name in metric_names(sweep) if name.startswith(f"{split}/")]
        rows = [
            [str(rank), *(word(level) for level in it.choice.values())]
            + [in_words(it.metric(name)) for name in own]
            for rank, it in enumerate(candidates[:MOST_ROWS], start=1)
        ]
        if own:
            header = ["", *keys, *(name.partition("/")[2] for name in own)]
            parts += [f"### {split.capitalize()}", table(header, rows)]
    return parts


def runs_part(sweep: Sweep) -> list[str]:
    """The runs that did not come to a good end, and why."""
    ended = [run for run in sweep.runs if run.status in ("failed", "interrupted", "diverged")]
    rows = [
        [
            run.name,
            f"`{' '.join(run.manifest['overrides'])}`",
            run.status,
            one_line(str(run.manifest.get("stop_reason") or "-")),
        ]
        for run in ended[:MOST_ROWS]
    ]
    rows += [[name, "-", "broken", reason] for name, reason in sweep.broken.items()]
    if not rows:
        return []
    more = len(ended) - MOST_ROWS
    rest = [f"{more} more are in `runs.csv`."] if more > 0 else []
    header = ["run", "overrides", "status", "reason"]
    return ["## Runs that did not end well", table(header, rows), *rest]


def one_line(text: str, limit: int = 160) -> str:
    """The first line of a reason, cut where it is long."""
    line = text.partition("\n")[0]
    return line if len(line) <= limit else line[: limit - 1] + "…"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def how_computed(sweep: Sweep) -> str:
    """The methods and the bounds, for who wants to know."""
    bullets = [
        "Means are over runs that are done. A config with a diverged run is ranked after those "
        f"without. {sweep.metric} decided; the test rows did not.",
        f"Intervals are percentile bootstraps of {N_RESAMPLES} resamples. They are too narrow with "
        "few seeds: of normal values they hold the true mean in 75 % of cases for 3 seeds, 84 % "
        "for 5, 90 % for 10.",
        "The best config is compared with the others by a paired t-test over the seeds that both "
        "have, two-sided, with Holm's correction over all comparisons.",
        f"Edge of the grid: within {bounds.EDGE:.0%} of the range that was swept, in its logarithm "
        "where it was spaced by factors.",
        "Seeds against settings: the standard deviation over seeds that the better half of the "
        "configs share. A setting does not matter if its values, each with the others at their "
        "best, differ by no more than that.",
        f"Still improving: the best epoch is in the last {bounds.LATE:.0%} before "
        f"trainer.max_epochs, and these brought {bounds.STILL_GAIN:.0%} or more.",
        f"Overfitting: the training accuracy is above that of validation by more than "
        f"{bounds.POINTS:.2f}; without an accuracy, the validation loss is more than "
        f"{bounds.FACTOR:g} times the training loss. Underfitting: training is as far from the "
        "best training of the sweep.",
        f"The validation loss turned if it ended more than {bounds.TURN:.0%} above its lowest.",
        "The findings are those of the tuning playbook (Godbole et al. 2023).",
    ]
    return "## How it was computed\n\n" + "\n".join(f"- {bullet}" for bullet in bullets)
