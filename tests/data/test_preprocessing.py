"""Preprocessing against scikit-learn, fitted on the training rows alone."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, StandardScaler
from torch import Tensor, nn

from multilayer.data.datamodule import DataModule
from multilayer.data.preprocessing import _SAVED_AS, Preprocessing
from multilayer.data.table import Columns, Table


def columns(n_rows=61, n_features=4):
    """Raw float32 columns of unlike means and scales, a tenth of the values missing."""
    rng = np.random.default_rng(0)
    scales = 10.0 ** np.arange(-2, n_features - 2)
    values = (rng.gamma(2.0, size=(n_rows, n_features)) * scales + scales).astype(np.float32)
    values[rng.random(values.shape) < 0.1] = np.nan
    return torch.from_numpy(values)


@pytest.mark.parametrize("n_rows", [60, 61])
def test_imputing_and_scaling_are_scikit_learn_s(n_rows):
    """The median, then the standard score, as `SimpleImputer` and `StandardScaler` in a row.

    With an even and an odd number of rows; what is missing later becomes the same median.
    """
    x, new = columns(n_rows), columns(17) * 2
    pipeline = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    pipeline.fit(x.double().numpy())
    indicator = MissingIndicator().fit(x.numpy())
    preprocessing = Preprocessing(4).fit_(x)
    assert preprocessing.n_features == 8
    for rows in (x, new):
        found = preprocessing(rows).numpy()
        expected = pipeline.transform(rows.double().numpy())
        np.testing.assert_allclose(found[:, :4], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(found[:, 4:], indicator.transform(rows.numpy()))


@pytest.mark.parametrize("n_rows", [50, 999, 3000])
def test_quantiles_are_scikit_learn_s(n_rows):
    """As `QuantileTransformer` for values that are not tied with the least or the largest."""
    rng = np.random.default_rng(0)
    x = np.stack([rng.gamma(2.0, size=n_rows), rng.normal(size=n_rows) * 1e4], axis=1)
    ties = np.concatenate([[-1.0], rng.integers(0, 5, n_rows - 2), [9.0]])
    x = np.column_stack([x, ties]).astype(np.float32)
    new = np.concatenate([x[:20] * 1.3, x[:5] - 1e6, x[:5] + 1e6]).astype(np.float32)
    transformer = QuantileTransformer(
        n_quantiles=min(1000, n_rows), output_distribution="normal", subsample=None
    ).fit(x.astype(np.float64))
    preprocessing = Preprocessing(3, numeric_scaling="quantile").fit_(torch.from_numpy(x))
    for rows in (x, new):
        expected = transformer.transform(rows.astype(np.float64))
        found = preprocessing(torch.from_numpy(rows)).numpy()
        np.testing.assert_allclose(found[:, :2], expected[:, :2], atol=1e-3)
        # Its quantiles are a rounding away from ties, which moves their ends by one of 1,000.
        np.testing.assert_allclose(found[:, 2], expected[:, 2], atol=0.01)


def test_categories_are_scikit_learn_s():
    """One-hot, with rare labels, those not seen and missing values in features of their own."""
    rng = np.random.default_rng(0)
    labels = np.array([*"abcdef"], dtype=object)
    words = rng.choice(labels[:5], size=200, p=[0.4, 0.3, 0.2, 0.08, 0.02])
    words[:12] = None
    codes = torch.tensor([np.nan if word is None else "abcdef".index(word) for word in words])
    numbers = torch.from_numpy(rng.normal(size=200)).float()
    x = torch.stack([numbers, codes.float()], dim=1)
    encoder = OneHotEncoder(min_frequency=8, handle_unknown="infrequent_if_exist")
    expected = encoder.fit_transform(words[:, None].astype(object)).toarray()
    preprocessing = Preprocessing(2, n_labels={1: 6}, min_frequency=8).fit_(x)
    # scikit-learn counts missing values among the labels, before those that are rare.
    names = [name.removeprefix("x0_") for name in encoder.get_feature_names_out()]
    order = [names.index(name) for name in ("a", "b", "c", "d", "infrequent_sklearn", "None")]
    np.testing.assert_array_equal(preprocessing(x)[:, 1:], expected[:, order])
    new = torch.tensor([[0.0, 5.0], [0.0, 6.0], [0.0, torch.nan]])  # not seen, not known, missing
    assert preprocessing(new)[:, 1:].argmax(1).tolist() == [4, 4, 5]


def test_only_the_most_frequent_labels_have_a_feature() -> None:
    """The others share one: 10,000 labels need no 10,000 features."""
    codes = torch.cat([torch.arange(10_000), torch.tensor([7, 7, 3])]).float()[:, None]
    preprocessing = Preprocessing(1, n_labels={0: 10_000}, max_categories=2).fit_(codes)
    assert preprocessing.n_features == 3
    new = torch.tensor([[7.0], [3.0], [5.0], [9999.0]])
    assert preprocessing(new).argmax(1).tolist() == [1, 0, 2, 2]


def test_labels_without_a_feature_are_zeros():
    """Where no training row had another label, or none at all."""
    x = torch.tensor([[0.0], [1.0], [0.0], [1.0]])
    preprocessing = Preprocessing(1, n_labels={0: 3}, min_frequency=1).fit_(x)
    new = torch.tensor([[1.0], [0.0], [2.0], [3.0], [torch.nan]])
    assert preprocessing(new).tolist() == [[0, 1], [1, 0], [0, 0], [0, 0], [0, 0]]


def test_standard_scores_have_mean_0_and_deviation_1():
    """So every feature enters the network on the same footing."""
    scores = Preprocessing(4).fit_(columns())(columns())[:, :4]
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores.mean(0), torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(scores.std(0, correction=0), torch.ones(4), rtol=0, atol=1e-5)


def test_large_numbers_keep_their_digits():
    """Years and prices: a large mean does not drown the differences."""
    rng = np.random.default_rng(0)
    x = (np.array([2000.0, 500_000.0]) + rng.integers(0, 30, (200, 2))).astype(np.float32)
    expected = StandardScaler().fit_transform(x.astype(np.float64))
    scores = Preprocessing(2).fit_(torch.from_numpy(x))(torch.from_numpy(x))
    np.testing.assert_allclose(scores.numpy(), expected, atol=0.005)


def test_small_units_are_scaled_too():
    """Seconds of a fast process, charges in coulomb: a small unit is not a constant column."""
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    scores = Preprocessing(2).fit_(x)(x)
    small = x * torch.tensor([1e-14, 1.6e-19])
    torch.testing.assert_close(Preprocessing(2).fit_(small)(small), scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.0, 123_456_789.0])
def test_constant_column_becomes_zero(value):
    """A column that never changes tells nothing, and divides by nothing."""
    x = torch.full((30, 1), value)
    preprocessing = Preprocessing(1).fit_(x)
    assert (preprocessing(x) == 0).all()
    assert preprocessing(x + 1).isfinite().all()


def test_constant_column_with_gaps_becomes_zero():
    """Its gaps are filled with the constant, and shown."""
    x = torch.tensor([[5.0], [torch.nan], [5.0]])
    assert Preprocessing(1).fit_(x)(x).tolist() == [[0, 0], [0, 1], [0, 0]]


def test_column_without_any_value_becomes_zero():
    """Nothing is known of it; where a later row has a value, the result is finite."""
    x = torch.tensor([[1.0, torch.nan], [3.0, torch.nan]])
    preprocessing = Preprocessing(2).fit_(x)
    torch.testing.assert_close(preprocessing(x)[:, :2], torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
    assert preprocessing(torch.tensor([[torch.nan, 8.0]])).isfinite().all()


def test_unfitted_changes_nothing():
    """Before it is fitted or loaded, values pass as they are."""
    x = torch.randn(5, 3)
    torch.testing.assert_close(Preprocessing(3)(x), x, rtol=0, atol=0)


def test_rows_in_are_left_as_they_were():
    """Neither fitting nor applying writes into the caller's tensor."""
    x = columns()
    kept = x.clone()
    Preprocessing(4).fit_(x)(x)
    torch.testing.assert_close(x, kept, rtol=0, atol=0, equal_nan=True)


def test_target_comes_back_in_its_units():
    """Scaling is the standard score, and unscaling its inverse."""
    y = torch.tensor([2000.0, 2010.0, 2040.0, 2030.0])
    preprocessing = Preprocessing(1).fit_(torch.zeros(4, 1), y)
    scaled = preprocessing.scale_target(y)
    expected = StandardScaler().fit_transform(y.double().numpy()[:, None])[:, 0]
    np.testing.assert_allclose(scaled.numpy(), expected, rtol=1e-5)
    torch.testing.assert_close(preprocessing.unscale_target(scaled), y)


def test_constant_target_comes_back():
    """All targets equal scale to 0 and back."""
    y = torch.full((4,), 7.0)
    preprocessing = Preprocessing(1).fit_(torch.zeros(4, 1), y)
    assert (preprocessing.scale_target(y) == 0).all()
    torch.testing.assert_close(preprocessing.unscale_target(preprocessing.scale_target(y)), y)


def test_without_a_target_none_is_scaled():
    """Classes need no scaling: both ways change nothing."""
    preprocessing = Preprocessing(4).fit_(columns())
    y = torch.tensor([1.0, 2.0])
    torch.testing.assert_close(preprocessing.scale_target(y), y, rtol=0, atol=0)
    torch.testing.assert_close(preprocessing.unscale_target(y), y, rtol=0, atol=0)


def test_fitted_numbers_travel_in_the_state(tmp_path):
    """Saved and loaded as plain tensors, it does the same."""
    x, y = columns(), torch.randn(61)
    fitted = Preprocessing(4).fit_(x, y)
    torch.save(fitted.state_dict(), tmp_path / "state.pt")
    loaded = Preprocessing(4)
    loaded.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    torch.testing.assert_close(loaded(x), fitted(x), rtol=0, atol=0)
    torch.testing.assert_close(loaded.scale_target(y), fitted.scale_target(y), rtol=0, atol=0)
    assert not list(loaded.parameters())


class Generated(DataModule):
    """A regression table that can be changed."""

    def __init__(self, **split):
        super().__init__(**split)
        x = columns(100)
        self.table = Table(
            x, x[:, 0].nan_to_num(0.0), Columns(["a", "b", "c", "d"], "y", "regression", [])
        )

    def load(self):
        """The table as it is now."""
        return self.table


def state_after(change):
    """The fitted numbers, with the table changed before it is split."""
    data = Generated()
    change(data.table)
    data.setup()
    return data.preprocessing.state_dict()


def rows_of(split):
    """The row numbers of a split of `Generated`, found by marking each row."""
    data = Generated()
    data.table.target.copy_(torch.arange(100.0))
    data.setup()
    _, target = data.split_tensors(split)
    return data.preprocessing.unscale_target(target).round().long()


@pytest.mark.parametrize("split", ["validation", "test"])
def test_rows_held_back_change_nothing_in_the_fit(split):
    """The numbers come from the training rows: what is tested on cannot leak into them."""
    rows = rows_of(split)

    def spoil(table):
        table.features[rows] = 1e6
        table.target[rows] = -1e6

    assert len(rows)
    untouched = state_after(lambda table: None)
    for name, value in state_after(spoil).items():
        torch.testing.assert_close(value, untouched[name], rtol=0, atol=0)


def test_training_rows_decide_the_fit():
    """The data set's numbers are those of `Preprocessing` on its training rows."""
    rows = rows_of("train")
    data = Generated()
    data.setup()
    expected = Preprocessing(4).fit_(data.table.features[rows], data.table.target[rows])
    for name, value in data.preprocessing.state_dict().items():
        torch.testing.assert_close(value, expected.state_dict()[name], rtol=0, atol=0)


def test_preprocessing_given_is_not_fitted_again():
    """A finished run meets new rows with the numbers of its training."""
    given = Preprocessing(4).fit_(columns(30) * 3, torch.randn(30))
    before = {name: value.clone() for name, value in given.state_dict().items()}
    data = Generated(preprocessing=given)
    data.setup()
    assert data.preprocessing is given
    for name, value in given.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def one_hot_of(codes: np.ndarray, categories: list[int]) -> np.ndarray:
    """scikit-learn's features of one column, whose labels not seen have none."""
    encoder = OneHotEncoder(categories=[categories], handle_unknown="ignore", sparse_output=False)
    return encoder.fit_transform(codes[:, None])


def test_columns_of_categories_between_numbers_have_their_own_features() -> None:
    """The numbers come first, then column after column, each with the features of its labels."""
    rng = np.random.default_rng(0)
    numbers, first, second = (
        rng.normal(size=(80, 2)),
        rng.integers(0, 3, 80),
        rng.integers(0, 5, 80),
    )
    x = np.column_stack([first, numbers[:, 0], second, numbers[:, 1]]).astype(np.float32)
    preprocessing = Preprocessing(4, n_labels={0: 3, 2: 6}).fit_(torch.from_numpy(x))
    assert preprocessing.category_sizes == [3, 5]
    assert preprocessing.n_encoded_labels == [3, 5]
    assert (preprocessing.n_numbers, preprocessing.n_features) == (2, 10)
    scaled = StandardScaler().fit_transform(numbers)
    blocks = [scaled, one_hot_of(first, [0, 1, 2]), one_hot_of(second, [0, 1, 2, 3, 4])]
    np.testing.assert_allclose(
        preprocessing(torch.from_numpy(x)).numpy(), np.hstack(blocks), rtol=1e-4, atol=1e-5
    )
    new = torch.tensor([[3.0, 0.0, 5.0, 0.0], [torch.nan, 0.0, 6.0, 0.0]])  # unknown, not seen
    assert (preprocessing(new)[:, 2:] == 0).all()


def test_labels_with_others_and_gaps_keep_apart_from_the_next_column_s() -> None:
    """A column with a feature for its rare labels and one for gaps, before another such column."""
    a = [0, 0, 0, 1, 1, 1, 2, np.nan]
    b = [1, 1, 1, 0, 2, 2, 2, np.nan]
    x = torch.tensor(list(zip(a, b, strict=True)))
    preprocessing = Preprocessing(2, n_labels={0: 3, 1: 3}, min_frequency=3).fit_(x)
    assert preprocessing.category_sizes == [4, 4]
    assert preprocessing.n_encoded_labels == [2, 2]
    places = [[0, 0, 0, 1, 1, 1, 2, 3], [4, 4, 4, 6, 5, 5, 5, 7]]
    expected = torch.zeros(8, 8)
    for rows in places:
        expected[torch.arange(8), torch.tensor(rows)] = 1
    assert torch.equal(preprocessing(x), expected)


def test_labels_that_are_equally_frequent_are_chosen_in_their_order() -> None:
    """So that the same table has the same features, on every machine."""
    codes = torch.tensor([2.0, 2, 0, 0, 3, 3, 1])[:, None]
    preprocessing = Preprocessing(1, n_labels={0: 4}, max_categories=2).fit_(codes)
    new = torch.tensor([[0.0], [1], [2], [3]])
    assert preprocessing(new).argmax(1).tolist() == [0, 2, 1, 2]


def test_scaling_by_quantiles_is_undone() -> None:
    """Between the least and the largest value; beyond them it is these, and a gap the median."""
    x = torch.from_numpy(np.random.default_rng(0).gamma(2.0, size=(300, 2)).astype(np.float32))
    preprocessing = Preprocessing(2, numeric_scaling="quantile").fit_(x)
    torch.testing.assert_close(
        preprocessing.unscale_numbers(preprocessing(x)), x, rtol=1e-3, atol=1e-3
    )
    low, high, median = x.min(0).values, x.max(0).values, x.quantile(0.5, dim=0)
    new = torch.stack([low - 9, high + 9, torch.full((2,), torch.nan)])
    found = preprocessing.unscale_numbers(preprocessing(new))
    torch.testing.assert_close(found, torch.stack([low, high, median]), rtol=1e-3, atol=1e-3)


def test_quantiles_of_one_row_and_of_a_constant_are_the_middle() -> None:
    """Half of the rows are below, and half above: 0."""
    for n_rows in (1, 20):
        preprocessing = Preprocessing(1, numeric_scaling="quantile").fit_(
            torch.full((n_rows, 1), 7.0)
        )
        assert preprocessing(torch.tensor([[7.0]])).tolist() == [[0.0]]
        assert preprocessing.unscale_numbers(torch.zeros(1, 1)).tolist() == [[7.0]]


@pytest.mark.parametrize("numbers", ["standard", "quantile"])
def test_rows_that_are_not_named_are_not_looked_at(numbers) -> None:
    """Fitted to some rows, it is as if fitted to a table of these alone."""
    x = torch.column_stack([columns(), torch.arange(61.0) % 5])
    y = torch.arange(61.0)
    rows = torch.tensor([3, 1, 4, 15, 9, 26, 5, 35, 8, 58])
    options = {"n_labels": {4: 5}, "numeric_scaling": numbers}
    some = Preprocessing(5, **options).fit_(x, y, rows=rows)
    alone = Preprocessing(5, **options).fit_(x[rows], y[rows])
    for name, value in some.state_dict().items():
        torch.testing.assert_close(value, alone.state_dict()[name], rtol=0, atol=0)


def test_features_are_float32_whatever_the_columns_are() -> None:
    """Whole numbers and float64, scaled by quantiles or not, with gaps and categories."""
    numbers = torch.tensor([[1.0, 0.0], [torch.nan, 1.0], [4.0, 0.0]])
    for x in (numbers.double(), numbers.half(), numbers.nan_to_num().long()):
        for how in ("standard", "quantile"):
            preprocessing = Preprocessing(2, n_labels={1: 2}, numeric_scaling=how).fit_(x)
            assert preprocessing(x).dtype == torch.float32
            is_wide = x.dtype != torch.float16
            assert preprocessing.raw_dtype == (torch.float64 if is_wide else torch.float32)


def test_only_scaling_by_quantiles_keeps_any() -> None:
    """A checkpoint of standard scores has no thousand numbers for each column."""
    assert Preprocessing(4).quantiles.shape == (4, 0)
    assert Preprocessing(4).fit_(columns()).quantiles.shape == (4, 0)
    assert Preprocessing(4, numeric_scaling="quantile").fit_(columns()).quantiles.shape == (4, 61)


def test_standard_scores_are_undone() -> None:
    """In the precision of the columns."""
    x = 1e9 + torch.tensor([[1.0, 10.0], [3.0, 20.0], [8.0, 60.0]], dtype=torch.float64)
    preprocessing = Preprocessing(2).fit_(x)
    found = preprocessing.unscale_numbers(preprocessing(x))
    torch.testing.assert_close(found, x, rtol=0, atol=1e-5)


def test_a_target_far_from_0_comes_back_with_its_digits() -> None:
    """What the network says in float32 is scaled in the precision that the target needs."""
    y = 1e9 + torch.tensor([1.0, 3.0, 8.0], dtype=torch.float64)
    preprocessing = Preprocessing(1).fit_(torch.zeros(3, 1), y)
    scaled = preprocessing.scale_target(y)
    assert scaled.dtype == torch.float32
    torch.testing.assert_close(preprocessing.unscale_target(scaled), y, rtol=0, atol=1e-5)
    in_float32 = preprocessing.scale_target(y.float())  # as far as that has its digits
    assert torch.equal(in_float32, preprocessing.scale_target(y.float().double()))


def test_columns_of_categories_follow_one_after_the_other() -> None:
    """The features of the third begin after those of both before it."""
    codes = torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    preprocessing = Preprocessing(3, n_labels={0: 2, 1: 2, 2: 3}).fit_(codes)
    expected = [[1, 0, 0, 1, 0, 0, 1], [0, 1, 1, 0, 0, 1, 0], [1, 0, 1, 0, 1, 0, 0]]
    assert preprocessing(codes).tolist() == expected


def test_it_is_made_again_by_its_options_and_state() -> None:
    """And it is like another one that maps to the same, and like no other."""
    x = torch.column_stack([columns(), torch.arange(61.0) % 5])
    names = [*"abcde"]
    table = Columns(names, "y", "regression", [], {"e": [*"vwxyz"]})
    options: dict[str, Any] = {
        "numeric_scaling": "quantile",
        "min_frequency": 13,
        "max_categories": 3,
    }
    fitted = Preprocessing.of(table, **options).fit_(x, x[:, 0].nan_to_num())
    assert fitted.n_encoded_labels == [1]
    again = Preprocessing(**fitted.options())
    assert not again.is_like(fitted)
    again.load_state_dict(fitted.state_dict())
    assert torch.equal(again(x), fitted(x))
    assert again.is_like(fitted)
    assert again.double().is_like(fitted)
    for name in _SAVED_AS:
        again.load_state_dict(fitted.state_dict())
        setattr(again, name, getattr(fitted, name) + 1)
        assert not again.is_like(fitted)
    assert not Preprocessing(4).is_like(Preprocessing(4, numeric_scaling="quantile"))
    assert not Preprocessing(4).is_like(Preprocessing(4, n_labels={3: 2}))


def test_a_state_without_one_of_its_numbers_is_refused_by_name() -> None:
    """As torch refuses it for a weight."""
    state = Preprocessing(4).fit_(columns()).state_dict()
    del state["mean"]
    with pytest.raises(RuntimeError, match=r'Missing key.*"mean"'):
        Preprocessing(4).load_state_dict(state)


def test_it_moves_with_its_module_and_keeps_its_precision() -> None:
    """The precision of a network is no matter of the columns'."""
    wide = Preprocessing(4).fit_(columns().double(), torch.arange(61.0).double())
    both = nn.Sequential(wide, nn.Linear(8, 1))
    dtypes = {name: value.dtype for name, value in wide.state_dict().items()}
    both.half()
    assert both[1].weight.dtype == torch.float16
    assert {name: value.dtype for name, value in wide.state_dict().items()} == dtypes
    assert not wide.mean.is_meta
    both.to("meta")
    assert {value.device.type for value in wide.state_dict().values()} == {"meta"}
    assert both[1].weight.is_meta


def test_only_a_device_without_float64_leaves_it_where_it_is() -> None:
    """Where it has numbers in float64: it then works on the CPU."""

    class OnMps:  # what a move to such a device gives
        device = torch.device("mps")

        def __init__(self, value: Tensor) -> None:
            self.dtype = value.dtype

    wide, narrow = (Preprocessing(1).fit_(torch.ones(2, 1, dtype=d)) for d in FLOATS)
    for preprocessing in (wide, narrow):
        preprocessing._apply(OnMps)
    assert isinstance(wide.mean, Tensor)
    assert isinstance(narrow.mean, OnMps)


FLOATS = torch.float64, torch.float32
