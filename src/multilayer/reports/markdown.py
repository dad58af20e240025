"""The report as Markdown."""

from collections.abc import Iterable, Sequence

from multilayer.core.text import sanitize
from multilayer.plotting.style import TURN
from multilayer.reports.configs import Candidate, as_range
from multilayer.reports.escaping import code_block, escape
from multilayer.reports.findings import bounds
from multilayer.reports.findings.finding import Finding, number
from multilayer.reports.hyperparameters import word
from multilayer.reports.plots import Picture
from multilayer.reports.runs import SweepRun
from multilayer.reports.seed_stats import N_RESAMPLES
from multilayer.reports.stalled import long_ago
from multilayer.reports.sweep import Sweep
from multilayer.reports.tables import SPLITS, mean_seconds, metric_names
from multilayer.reports.verdict import best_command, in_words

MOST_NAMES = 20
"""Of runs in a line."""

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
        f"# Sweep {escape(sanitize(sweep.folder.resolve().name))}",
        *state_of(sweep),
        *(f"**Caution: {escape(each)}.**" for each in sweep.cautions),
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
    lines = map(escape, state_lines(sweep))
    note = "**The sweep is still running: all below is of the runs so far.**"
    return ([note] if sweep.running else []) + ["  \n".join(lines)]


def state_lines(sweep: Sweep) -> list[str]:
    """The numbers of runs by status, and the names of those that are not done.

    Shared with what the command prints.
    """
    n = len(sweep.runs) + len(sweep.broken)
    planned = f" of {sweep.n_planned} planned" if sweep.n_planned else ""
    counts = ", ".join(f"{count} {name}" for name, count in sweep.counts.items())
    lines = [f"{n} runs{planned}: {counts}"]
    for status in sweep.counts:
        if status not in ("done", "running"):
            lines.append(f"{status}: {names(sweep.named(status))}")
    if sweep.without_score:
        lines.append(f"done, but without {sweep.metric}: {names(sweep.without_score)}")
    if sweep.running:
        lines.append(f"running: {names(sweep.running)}")
    if sweep.killed:
        ago = long_ago(min(sweep.killed.values()))
        lines.append(f"running, or killed: nothing written for {ago}: {names(list(sweep.killed))}")
    if sweep.broken:
        lines.append(f"broken, left out: {names(list(sweep.broken))}")
    if sweep.n_missing:
        known = names(sweep.missing(MOST_NAMES), sweep.n_missing)
        lines.append(f"missing: {known if sweep.numbers is not None else sweep.n_missing}")
    return lines


def names(runs: Sequence[str], n: int | None = None) -> str:
    """The number of runs and their names, the first of many; n: where `runs` are not all.

    >>> names(["3", "5"]), names(["3"]), names(["1", "2"], 9)
    ('2 (runs 3, 5)', '1 (run 3)', '9 (runs 1, 2 and 7 more)')
    """
    n, shown = n or len(runs), runs[:MOST_NAMES]
    more = f" and {n - len(shown)} more" if n > len(shown) else ""
    return f"{n} (run{'s' if n > 1 else ''} {', '.join(shown)}{more})"


def what_varied(sweep: Sweep) -> list[str]:
    """A row for each setting, and how many seeds."""
    seeds = len(set(sweep.replicates))
    repeat = sweep.repeat
    folded = f"Folded: {seeds} {repeat}s." if seeds > 1 else "One seed: no spread is known."
    if not sweep.settings:
        but = f"Nothing but the {repeat}. {folded}"
        return ["## What varied", but if seeds > 1 else "Nothing."]
    rows = []
    for setting in sweep.settings:
        words = [word(level) for level in setting.levels]
        shown = ", ".join(words[:10]) + (f", … {words[-1]}" if words[10:] else "")
        spacing = "by factors" if setting.is_log else "by steps" if setting.is_number else "choices"
        rows.append([setting.key, str(len(words)), spacing, shown])
    for key, levels in sweep.reported.items():
        different = str(len(set(levels)))
        rows.append([key, different, "not swept", as_range(levels)])
    return ["## What varied", table(["setting", "values", "spaced", ""], rows), folded]


def best_config(sweep: Sweep, candidates: Sequence[Candidate], verdict: str) -> list[str]:
    """The best config, the command that trains it, and whether it can be told from the second."""
    command = best_command(candidates, sweep)
    if command is None:
        return ["## Best config", escape(verdict)]
    best = candidates[0]
    test = [
        escape(f"{name.partition('/')[2]} {in_words(best.metric(name))}")
        for name in metric_names(sweep)
        if name.startswith("test/")
    ]
    lines = [
        "## Best config",
        code_block(command),
        f"{escape(sweep.metric)} {in_words(best.score)}, n = {len(best.scores)}. "
        f"It has the best mean of {escape(sweep.metric)} ({sweep.mode}). {escape(verdict)}",
    ]
    if test:
        lines.append(f"On the test rows, by which nothing was chosen: {'; '.join(test)}.")
    return lines


def findings_part(findings: Sequence[Finding]) -> list[str]:
    """A bullet for each finding."""
    if not findings:
        return []
    return [
        "## Findings",
        "\n".join(f"- **{escape(it.title)}**: {escape(it.text)}." for it in findings),
    ]


def figures_part(sweep: Sweep, pictures: Sequence[Picture]) -> list[str]:
    """The figures, each with what it shows."""
    if not pictures:
        return []
    return ["## Figures", *(shown(it, sweep) for it in pictures)]


def shown(picture: Picture, sweep: Sweep) -> str:
    """A figure with what it shows below it."""
    file = picture.path.relative_to(sweep.folder).as_posix()
    return f"![{picture.path.stem}]({file})\n\n*{escape(picture.caption)}.*"


def configs_part(sweep: Sweep, candidates: Sequence[Candidate]) -> list[str]:
    """The configs, best first: the compared metric, how the runs ended, and their time."""
    rows = [config_cells(rank, it) for rank, it in enumerate(candidates[:MOST_ROWS], start=1)]
    words = explain_rows(sweep, len(candidates))
    stacks = ["  \n".join(map(escape, stack_lines(sweep)))] if stack_lines(sweep) else []
    return ["## Configs", words, table(config_header(sweep), rows), *stacks]


def stack_lines(sweep: Sweep) -> list[str]:
    """The time of each stack, of which the table has the shares; shared with the command."""
    stacks: dict[str, list[SweepRun]] = {}
    for run in sweep.runs:
        if run.in_stack and run.manifest.get("stack") and run.stack_seconds is not None:
            stacks.setdefault(run.manifest["stack"], []).append(run)
    return [
        f"time of the stack of {names([run.name for run in runs])}: "
        f"{number(max(run.stack_seconds or 0.0 for run in runs))} s"
        for runs in list(stacks.values())[:MOST_NAMES]
    ]


def config_header(sweep: Sweep) -> list[str]:
    """The columns of the table of configs, here and in the terminal."""
    keys = [*(setting.key for setting in sweep.settings), *sweep.reported]
    return ["", *keys, sweep.metric, "n", "status", "time (s)"]


def config_cells(rank: int, candidate: Candidate) -> list[str]:
    """A row of it."""
    return [
        str(rank),
        *(word(level) for level in candidate.choice.values()),
        *candidate.reported.values(),
        in_words(candidate.score),
        str(len(candidate.scores)),
        candidate.states(),
        number(mean_seconds(candidate)),
    ]


def explain_rows(sweep: Sweep, n_rows: int) -> str:
    """What a cell says, and where the rest of the rows are."""
    rest = f" The best {MOST_ROWS} of {n_rows} are here;" if n_rows > MOST_ROWS else ""
    stacked = [run for run in sweep.runs if run.in_stack]
    time = "that of a run" + (", in a stack its share" if stacked else "")
    unknown = " (not known where an earlier version trained the stack)"
    time += unknown if any(run.seconds is None for run in stacked) else ""
    return (
        f"Mean ± standard deviation over n {sweep.repeat}s [95 % interval of the mean]; the time "
        f"is {time}, in the mean.{rest} `configs.csv` has each number by itself, `runs.csv` each "
        "run."
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
            " ".join(run.manifest["overrides"]),
            run.status,
            str(run.manifest.get("stop_reason") or "-"),
        ]
        for run in ended[:MOST_ROWS]
    ]
    rows += [[name, "-", "broken", reason] for name, reason in sweep.broken.items()][:MOST_ROWS]
    if not rows:
        return []
    more = len(ended) - MOST_ROWS
    rest = [f"{more} more are in `runs.csv`."] if more > 0 else []
    header = ["run", "overrides", "status", "reason"]
    return ["## Runs that did not end well", table(header, rows), *rest]


def one_line(text: str, limit: int = 160) -> str:
    """The first line of a text, cut where it is long."""
    line = text.partition("\n")[0]
    return line if len(line) <= limit else line[: limit - 1] + "…"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; of long cells the beginning."""
    lines = [header, ["---"] * len(header), *rows]
    cells = [[escape(one_line(cell)) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def how_computed(sweep: Sweep) -> str:
    """The methods and the bounds, for who wants to know."""
    bullets = [
        "Means are over runs that are done. A config with fewer done seeds than most is ranked "
        "after the complete ones, and one with a diverged run after those. "
        f"{escape(sweep.metric)} decided; the test rows did not.",
        f"Intervals are percentile bootstraps of {N_RESAMPLES} resamples, of three {sweep.repeat}s "
        "or more. They are too narrow with "
        "few seeds: of normal values they hold the true mean in 75 % of cases for 3 seeds, 84 % "
        "for 5, 90 % for 10.",
        "The best config is compared with the others by a paired t-test over the seeds that both "
        "have, two-sided, with Holm's correction over all comparisons.",
        f"Edge of the grid: within {bounds.EDGE:.0%} of the range that was swept, in its logarithm "
        "where it was spaced by factors.",
        "Chance: the standard deviation of a run beside the mean of its config, without what the "
        "seed does to all configs (a table of configs by seeds, the better half of the configs).",
        "A setting does not matter if the best config at each of its values is as good as the best "
        "of all: if the 95 % interval of their paired difference is within "
        f"±{bounds.EQUIVALENT:g} of these standard deviations, what a run gains or loses by "
        "chance. With fewer than about ten seeds hardly an interval is so narrow.",
        f"Still improving: the best epoch is in the last {bounds.LATE:.0%} before "
        f"trainer.max_epochs, and these brought {bounds.STILL_GAIN:.0%} or more.",
        f"Overfitting: the training accuracy is above that of validation by more than "
        f"{bounds.POINTS:.2f}; without an accuracy, the validation loss is more than "
        f"{bounds.FACTOR:g} times the training loss. Underfitting: training is as far from the "
        "best training of the sweep; it learns nothing if accuracy and F1 are "
        "those of always naming one class, if "
        f"the training AUROC is below {bounds.LEAST_AUROC:g}, or r2 below {bounds.LEAST_R2:g}.",
        f"The validation loss turned if it ended more than {TURN:.0%} above its lowest; "
        f"from {bounds.BIG_TURN:.0%} on that is a finding.",
        "The findings are those of the tuning playbook (Godbole et al. 2023).",
    ]
    return "## How it was computed\n\n" + "\n".join(f"- {bullet}" for bullet in bullets)
