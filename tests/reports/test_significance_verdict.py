"""What the report says of the best config and the second."""

from pathlib import Path

import pytest
from scipy import stats

from multilayer.reports.configs import SeedStats, best_command
from multilayer.reports.markdown import _format_stats
from multilayer.reports.significance import _more_seeds, compare, verdict

from .fake_sweeps import opened, write_grid, write_run


def said(folder: Path) -> str:
    """The verdict on a sweep."""
    sweep, configs = opened(folder)
    return verdict(sweep, configs, compare(configs, sweep.sign))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], "-"),
        ([0.25], "0.25"),
        ([1.0, 3.0], "2 ± 1.4 [n too small]"),
        ([1.0, 1.0, 1.0], "1 ± 0 [1, 1]"),
    ],
)
def test_a_mean_is_formatted_with_what_is_known_of_it(values: list[float], words: str) -> None:
    """The interval from three seeds on."""
    assert _format_stats(SeedStats.of(values)) == words


def test_an_interval_has_both_its_ends() -> None:
    """The lower one first."""
    assert _format_stats(SeedStats(2.0, 0.5, 3, 1.5, 2.75)) == "2 ± 0.5 [1.5, 2.75]"


def test_the_numbers_of_the_verdict_are_those_of_the_test(tmp_path: Path) -> None:
    """The difference, its interval and p after the correction for both others."""
    best, second, third = [0.1, 0.2, 0.3], [0.3, 0.1, 0.35], [0.9, 0.5, 0.7]
    write_grid(tmp_path, {1.0: list(best), 2.0: list(second), 3.0: list(third)})
    test = stats.ttest_rel(second, best)
    low, high = test.confidence_interval()
    adjusted = max(test.pvalue, 2 * stats.ttest_rel(third, best).pvalue)
    text = said(tmp_path)
    assert text.startswith("It is not distinguishable from the second (optimizer.lr=2)")
    assert "the second is worse by 0.05 (uncorrected" in text
    assert f"interval {low:.4g} to {high:.4g}) over 3 shared seeds" in text
    assert f"p = {adjusted:.2g} after Holm's correction for 2 comparisons." in text


def test_what_is_the_same_needs_no_test(tmp_path: Path) -> None:
    """A difference of 0 from 0 to 0 with p = 1 says it less well."""
    same = [0.1, 0.2, 0.3]
    write_grid(tmp_path, {1.0: list(same), 2.0: list(same), 3.0: [0.9, 0.5, 0.7]})
    assert said(tmp_path) == (
        "It is as good to the last digit as optimizer.lr=2: take either. 2 of 2 other configs "
        "cannot be told from the best, though 1 of them did worse with every seed."
    )


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (3, "optimizer.lr=1 and optimizer.lr=2: take any."),
        (6, "optimizer.lr=1, optimizer.lr=2, optimizer.lr=3 and 2 more: take any."),
    ],
)
def test_all_that_tie_are_named(tmp_path: Path, n: int, words: str) -> None:
    """Or as many of them as one reads, of a single seed too."""
    write_grid(tmp_path, {float(lr): [0.5] for lr in range(n)} | {9.0: [0.75]})
    assert said(tmp_path) == f"It is as good to the last digit as {words}"


def test_one_comparison_is_no_several(tmp_path: Path) -> None:
    """And what is clear needs no advice."""
    write_grid(tmp_path, {0.1: [0.1, 0.11, 0.12], 1.0: [0.9, 0.92, 0.91]})
    text = said(tmp_path)
    assert text.startswith("It is distinguishable from the second")
    assert text.endswith("correction for 1 comparison.")


def test_by_the_uncorrected_p_value_nothing_is_distinguishable(tmp_path: Path) -> None:
    """The second alone would be; beside ten others it is not."""
    losses: dict[float, list[float | None]] = {
        1.0: [0.0, 0.0, 0.0, 0.0],
        2.0: [0.1, 0.2, 0.3, 0.1],
    }
    write_grid(tmp_path / "alone", dict(losses))
    losses |= {float(rate): [-0.5, 0.9, 0.4, 0.3] for rate in range(3, 13)}
    write_grid(tmp_path / "beside", losses)
    assert said(tmp_path / "alone").startswith("It is distinguishable from the second")
    assert said(tmp_path / "beside").startswith("It is not distinguishable from the second")


def test_who_did_worse_with_every_seed_is_counted(tmp_path: Path) -> None:
    """Among those that cannot be told from the best: some, all or none."""
    rows: dict[str, dict[float, list[float | None]]] = {
        "some": {1.0: [0.1, 0.2, 0.3], 2.0: [0.4, 0.1, 0.35], 3.0: [0.2, 0.9, 9.0]},
        "each": {1.0: [0.1, 0.2, 0.3], 3.0: [0.2, 0.9, 9.0]},
        "none": {1.0: [0.1, 0.2, 0.3], 2.0: [0.4, 0.1, 0.35]},
    }
    for name, losses in rows.items():
        write_grid(tmp_path / name, losses)
    text = said(tmp_path / "some")
    assert "2 of 2 other configs cannot be told from the best, though 1 of them did worse" in text
    text = said(tmp_path / "each")
    assert "1 of 1 other config cannot be told from the best, though each did worse with ev" in text
    assert "though" not in said(tmp_path / "none")


def test_a_difference_that_is_one_number_has_no_spread(tmp_path: Path) -> None:
    """The verdict says so."""
    write_grid(tmp_path, {1.0: [0.1, 0.2, 0.3], 2.0: [0.35, 0.45, 0.55]})
    assert said(tmp_path).startswith(
        "The second (optimizer.lr=2) is worse by 0.25 for each of 3 seeds alike"
    )


@pytest.mark.parametrize(
    ("losses", "have", "override"),
    [
        ({1.0: [0.1], 2.0: [0.2]}, "1 seed,", "seed=0,1,2,3,4"),
        ({1.0: [0.1, 0.2], 2.0: [0.2, 0.3]}, "2 seeds,", "seed=0,1,2,3,4"),
    ],
)
def test_too_few_seeds_are_counted_and_five_are_asked_for(
    tmp_path: Path, losses: dict[float, list[float | None]], have: str, override: str
) -> None:
    """Those that are there stay."""
    write_grid(tmp_path, losses)
    text = said(tmp_path)
    assert f"the best two share {have} and a test needs 3" in text
    assert f"Add {override} to the sweep" in text


def test_configs_that_share_no_seed_are_told_so(tmp_path: Path) -> None:
    """However many each has."""
    for number in range(6):
        write_run(tmp_path / str(number), 0.1 * number, optimizer__lr=number // 3, seed=number)
    assert "the best two share no seed, and" in said(tmp_path)


def test_equal_configs_need_no_more_seeds(tmp_path: Path) -> None:
    """Whatever they would tell; a difference of next to nothing would take more than fifty."""
    write_grid(tmp_path / "same", {1.0: [0.5] * 3, 2.0: [0.5] * 3})
    assert said(tmp_path / "same").endswith("cannot be told from the best.")
    write_grid(tmp_path / "near", {1.0: [0.1, 0.2, 0.3], 2.0: [0.301, 0.1, 0.2]})
    assert said(tmp_path / "near").endswith(
        "Take either: it would take more than 50 seeds to tell."
    )


def test_there_is_nothing_to_say_of_one_config(tmp_path: Path) -> None:
    """Nor of none."""
    write_grid(tmp_path / "one", {1.0: [0.5, 0.6, 0.7]})
    write_grid(tmp_path / "none", {1.0: [None], 2.0: [None]})
    assert said(tmp_path / "one") == "There is no second config to compare it with."
    assert said(tmp_path / "none").startswith("No config has a finished run that did not diverge")
    sweep, configs = opened(tmp_path / "none")
    assert best_command(configs, sweep) is None


def test_folds_end_with_those_of_the_data(tmp_path: Path) -> None:
    """More cannot be had."""
    for number, (lr, fold_) in enumerate((lr, i) for lr in (0.1, 1.0) for i in range(3)):
        loss = 0.1 * fold_ + 0.02 * lr * (1 + fold_ % 2)
        write_run(tmp_path / str(number), loss, optimizer__lr=lr, data__fold=fold_, data__folds=3)
    sweep, configs = opened(tmp_path)
    (second,) = compare(configs, sweep.sign)
    assert second.n == 3
    assert _more_seeds(sweep, 3) == "data.fold=0,1,2"
    assert _more_seeds(sweep, 4) is None
    assert "folds would tell, more than the data are split into." in said(tmp_path)


@pytest.mark.parametrize(
    ("seeds", "n", "override"),
    [
        ([0, 1], 3, "seed=0,1,2"),
        ([7, 3], 4, "seed=3,7,0,1"),
        ([0, 1], 7, "seed='range(7)'"),
        ([1, 2], 6, "seed=1,2,0,3,4,5"),
        (["a", 1], 3, None),
    ],
)
def test_seeds_are_added_to_those_that_are_there(
    tmp_path: Path, seeds: list[int], n: int, override: str | None
) -> None:
    """The smallest that are not; words are none."""
    for number, seed in enumerate(seeds):
        write_run(tmp_path / str(number), 0.1, optimizer__lr=0.1, seed=seed)
    sweep, _ = opened(tmp_path)
    assert _more_seeds(sweep, n) == override


def test_no_seeds_are_added_to_runs_that_went_on(tmp_path: Path) -> None:
    """Another one is refused there."""
    for number, lr in enumerate((0.1, 0.2)):
        write_run(tmp_path / str(number), lr, optimizer__lr=lr, resume="run")
    sweep, _ = opened(tmp_path)
    assert _more_seeds(sweep, 3) is None
