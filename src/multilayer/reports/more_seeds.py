"""The override that adds seeds, or folds, to a sweep."""

from multilayer.reports.hyperparameters import word
from multilayer.reports.runs import config_at
from multilayer.reports.sweep import Sweep


def more_seeds(sweep: Sweep, n: int) -> str | None:
    """The override for n seeds, those that the sweep has first.

    None where there are no more, where they are no whole numbers, or where the runs went on from
    another: its seed is theirs.

    It names the key that the sweep repeated its configs by: the seed, or the fold.
    """
    keys = sweep.replicate_keys
    key = "seed" if "seed" in keys or not keys else keys[0]
    if keys:
        used = list(dict.fromkeys(each[keys.index(key)] for each in sweep.replicates))
    else:
        used = [sweep.runs[0].config.get("seed", 0)]
    if sweep.runs[0].config.get("resume") or not all(isinstance(value, int) for value in used):
        return None
    most = config_at(sweep.runs[0], "data.folds") if key == "data.fold" else None
    unused = (number for number in range(n + len(used)) if number not in used)
    values = sorted(used) + [next(unused) for _ in range(n - len(used))]
    if isinstance(most, int) and max(values) >= most:
        return None
    if values == list(range(n)) and n > 5:
        return f"{key}='range({n})'"
    return f"{key}={','.join(map(word, values))}"
