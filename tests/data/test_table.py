"""Files read as tables: their task, their classes, and what is said of bad ones."""

from datetime import timedelta

import polars as pl
import pytest
import torch

from multilayer.core.errors import UserError
from multilayer.data import TableData
from multilayer.data.origin import Origin
from multilayer.data.table import Columns
from multilayer.data.table_builder import encode_table, table_from_frame
from multilayer.data.table_files import _WRITABLE
from multilayer.data.table_io import write_frame
from multilayer.data.tabular import read_frame_like
from multilayer.data.text_format import TextFormat

FRAME = pl.DataFrame(
    {
        "length": [5.1, 4.9, None, 6.3],
        "count": [1, None, 3, 4],
        "flag": [True, False, None, True],
        "kind": ["b", "a", "c", "a"],
    }
)


def from_target(values, task=None, **options):
    """The table that predicts the given values from one feature."""
    target = pl.Series("y", values, **options)
    return table_from_frame(
        pl.DataFrame({"x": range(len(target)), "y": target}), target="y", task=task, name="f.csv"
    )


@pytest.mark.parametrize("ending", _WRITABLE)
def test_file_becomes_a_table(tmp_path, ending):
    """Numbers and booleans are features, gaps are NaN, words in the target are classes."""
    write_frame(FRAME, tmp_path / f"f{ending}")
    table = TableData(path=str(tmp_path / f"f{ending}"), target="kind").load()
    nan = float("nan")
    expected = torch.tensor([[5.1, 1.0, 1.0], [4.9, nan, 0.0], [nan, 3.0, nan], [6.3, 4.0, 1.0]])
    torch.testing.assert_close(table.features, expected, rtol=0, atol=0, equal_nan=True)
    assert table.target.tolist() == [1, 0, 2, 0]
    assert table.columns == Columns(
        ["length", "count", "flag"], "kind", "multiclass", ["a", "b", "c"]
    )


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        (["no", "yes", "no"], "binary", ["no", "yes"]),
        (["c", "a", "b"], "multiclass", ["a", "b", "c"]),
        ([True, False, True], "binary", ["False", "True"]),
        ([1, 0, 1], "binary", ["0", "1"]),
        ([10, 9, 2], "multiclass", ["2", "9", "10"]),
        (list(range(20)), "multiclass", [str(label) for label in range(20)]),
        (list(range(21)), "regression", []),
        ([0.0, 1.0, 0.0], "regression", []),
        ([1.5, 2.5, 3.5], "regression", []),
    ],
)
def test_task_follows_the_target(values, task, classes):
    """Words, booleans and at most 20 integers are classes, sorted by their own type."""
    columns = from_target(values).columns
    assert (columns.task, columns.classes) == (task, classes)


def test_order_of_an_enum_is_kept():
    """A column that says how its words are ordered is believed."""
    target = pl.Series("y", ["low", "high", "mid"], dtype=pl.Enum(["low", "mid", "high"]))
    assert from_target(target).columns.classes == ["low", "mid", "high"]


@pytest.mark.parametrize(
    ("task", "values", "n_outputs", "dtype"),
    [
        ("binary", [0, 1, 1], 1, torch.int64),
        ("multiclass", [0, 1, 1], 2, torch.int64),
        ("multiclass", [0, 1, 2], 3, torch.int64),
        ("regression", [0, 1, 1], 1, torch.float32),
    ],
)
def test_task_may_be_given(task, values, n_outputs, dtype):
    """Integers are taken as asked for; the width of the output follows the task."""
    table = from_target(values, task=task)
    assert table.columns.task == task
    assert table.columns.n_outputs == n_outputs
    assert table.target.dtype == dtype
    assert table.target.tolist() == values


def test_columns_survive_as_plain_data():
    """What a checkpoint stores rebuilds the same columns."""
    columns = from_target(["a", "b", "a"]).columns
    assert Columns(**columns.to_dict()) == columns


def test_fingerprint_tells_tables_apart():
    """Equal tables have equal fingerprints; a value, a name or a target more differs."""
    table = from_target(["a", "b", "a"])
    assert table.fingerprint() == from_target(["a", "b", "a"]).fingerprint()
    others = [from_target(["a", "b", "b"]), from_target(["a", "c", "a"]), from_target([0, 1, 0])]
    assert len({table.fingerprint(), *(other.fingerprint() for other in others)}) == 4


def test_known_columns_read_another_table():
    """Whatever the order of its columns and whatever else it holds, with the classes known."""
    columns = Columns(["a", "b"], "y", "multiclass", ["u", "v", "w"])
    frame = pl.DataFrame({"y": ["w", "u"], "extra": ["?", "!"], "b": [1, 2], "a": [3, 4]})
    table = encode_table(frame, columns, Origin("g.csv"))
    assert table.features.tolist() == [[3, 1], [4, 2]]
    assert table.target.tolist() == [2, 0]
    assert table.columns is columns


def error_of(frame, target="y", task=None):
    """What the user is told of a frame."""
    with pytest.raises(UserError) as error:
        table_from_frame(frame, target=target, task=task, name="f.csv")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_missing_target_column_is_reported():
    """With the key to mend, and the nearest name."""
    message = error_of(pl.DataFrame({"price": [1.0], "size": [2.0]}), target="prise")
    assert message == "f.csv has no column 'prise' for data.target: did you mean data.target=price?"


def test_table_without_rows_is_reported():
    """A header alone is nothing to learn from."""
    assert error_of(pl.DataFrame({"x": [], "y": []})) == "f.csv has a header and no rows"


def test_table_without_features_is_reported():
    """The target alone does not predict itself."""
    assert "no feature columns" in error_of(pl.DataFrame({"y": ["a", "b"]}))


@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
def test_infinite_feature_is_reported_with_its_row(value):
    """Rows are counted from 1, the header aside."""
    frame = pl.DataFrame({"x": [1, 2, 3], "z": [1.0, 2.0, value], "y": ["a", "b", "a"]})
    assert error_of(frame) == (
        "f.csv: column 'z' is infinite in row 3, or beyond 1.8e308, the largest float64; correct "
        "it, or leave it empty if missing"
    )


@pytest.mark.parametrize(
    ("values", "task"),
    [(["a", None, "b"], None), ([1.5, None, 2.5], None), ([0, None, 1], "regression")],
)
def test_missing_target_is_reported_with_its_row(values, task):
    """A row without a target can be neither learnt from nor tested on."""
    frame = pl.DataFrame({"x": [1, 2, 3], "y": values})
    assert error_of(frame, task=task) == "f.csv: the target 'y' is missing in row 2"


@pytest.mark.parametrize("task", ["multiclass", "binary"])
def test_nan_is_no_class(task):
    """A number that is missing is not one more class."""
    frame = pl.DataFrame({"x": [1, 2, 3], "y": [0.0, float("nan"), 1.0]})
    assert error_of(frame, task=task) == "f.csv: the target 'y' is missing in row 2"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_target_that_is_not_finite_is_reported_with_its_row(value):
    """No loss is finite there."""
    message = error_of(pl.DataFrame({"x": [1, 2, 3], "y": [0.5, 1.0, value]}))
    assert message in (
        "f.csv: the target 'y' is infinite in row 3, or beyond 1.8e308, the largest float64; "
        "correct it, or leave out the row",
        "f.csv: the target 'y' is missing in row 3",  # a fair word for NaN
    )


def test_durations_are_no_labels():
    """They are numbers."""
    frame = pl.DataFrame({"x": [timedelta(1), timedelta(2)], "y": [0.5, 1.5]})
    with pytest.raises(
        UserError, match=r"data\.categorical_columns: 'x' holds durations, not labels"
    ):
        table_from_frame(frame, target="y", categorical_columns=["x"], name="f.parquet")


def test_words_are_no_target_for_regression():
    """Nothing is guessed from them."""
    message = error_of(pl.DataFrame({"x": [1, 2], "y": ["a", "b"]}), task="regression")
    assert message.startswith("f.csv: the target 'y' must hold numbers, found 'a' in row 1")


def test_target_of_one_class_is_reported():
    """There is nothing to tell apart."""
    message = error_of(pl.DataFrame({"x": [1, 2], "y": ["a", "a"]}))
    assert message == "f.csv: column 'y' has 1 class, needs at least 2"


def test_a_number_that_is_the_same_everywhere_is_no_target():
    """There is nothing to learn."""
    message = error_of(pl.DataFrame({"x": [1, 2], "y": [0.5, 0.5]}))
    assert message == "f.csv: the target 'y' is 0.5 in every row: there is nothing to learn"


def test_binary_needs_two_classes():
    """More are another task."""
    message = error_of(pl.DataFrame({"x": [1, 2, 3], "y": ["a", "b", "c"]}), task="binary")
    assert message == "f.csv: column 'y' has 3 classes, binary needs 2"


KNOWN = Columns(["a", "b"], "y", "binary", ["no", "yes"])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [1], "y": ["no"]}, "g.csv lacks 'b'; it has 'a', 'y'"),
        ({"a": [1], "b": [2]}, "g.csv has no column 'y', the target"),
        (
            {"a": [1, 2], "b": [1, 2], "y": ["no", "perhaps"]},
            "g.csv: the target 'y' is 'perhaps' in row 2, none of the classes 'no', 'yes'",
        ),
        (
            {"a": [1, 2], "b": [1, 2], "y": ["no", None]},
            "g.csv: the target 'y' is missing in row 2",
        ),
    ],
)
def test_table_unlike_the_one_of_the_training_is_reported(columns, message):
    """What a finished run cannot be evaluated on is said with the column or the row."""
    with pytest.raises(UserError) as error:
        encode_table(pl.DataFrame(columns), KNOWN, Origin("g.csv"))
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "no such file"),
        ("f.txt", "x,y\n1,a\n", "must end in"),
        ("f.csv", "", "empty, expected a header"),
        ("f.csv", "x,y\n", "a header and no rows"),
        ("f.csv", "x,z\n1,a\n2,b\n", "no column 'y' for data.target"),
        ("f.csv", "x,y\n1,a\nred,b\n", "column 'x' holds numbers, but 'red' in row 2"),
        ("f.csv", "x,y\n1.5,a\ninf,b\n", "column 'x' is infinite in row 2"),
        ("f.csv", "x,y\n1,a\n2,\n3,b\n", "the target 'y' is missing in row 2"),
    ],
)
def test_data_set_tells_what_is_wrong_with_its_file(tmp_path, name, content, message):
    """Setting up stops with one message that names the file."""
    if content is not None:
        (tmp_path / name).write_text(content)
    data = TableData(path=str(tmp_path / name), target="y")
    with pytest.raises(UserError, match=message) as error:
        data.setup()
    assert name in str(error.value)


def test_the_index_that_pandas_writes_is_a_column(tmp_path):
    """Without a name; it can be left out."""
    rows = "".join(f"{row},{row / 7},{'ab'[row % 2]}\n" for row in range(40))
    (tmp_path / "f.csv").write_text(f",x,y\n{rows}")
    path = str(tmp_path / "f.csv")
    assert TableData(path=path, target="y").load().columns.features == ["", "x"]
    assert TableData(path=path, target="y", drop_columns=[""]).load().columns.features == ["x"]


def test_data_set_splits_and_scales_its_file(tmp_path):
    """From file to minibatches: every row, standardised, without gaps."""
    rows = range(40)
    frame = pl.DataFrame({"x": [None if row % 7 == 0 else row for row in rows], "y": rows})
    write_frame(frame.with_columns(pl.col("y") % 2), tmp_path / "f.csv")
    data = TableData(path=str(tmp_path / "f.csv"), target="y", batch_size=8)
    data.setup()
    assert data.columns.task == "binary"
    assert sum(data.count_rows().values()) == 40
    features, target = data.split_tensors("train")
    torch.testing.assert_close(features[:, :1].mean(0), torch.zeros(1), rtol=0, atol=1e-5)
    assert target.bincount().tolist() == [14, 14]
    assert all(some.isfinite().all() for some, _ in data.train_dataloader())


def test_files_of_splits_are_read_as_the_training_rows(tmp_path):
    """Kinds and classes are those of the training file; what is not given is divided off it."""
    rows = range(60)
    frame = pl.DataFrame({"x": rows, "c": ["a", "b", "c"] * 20, "y": ["no", "yes"] * 30})
    write_frame(frame, tmp_path / "train.csv")
    write_frame(frame.head(10).with_columns(c=pl.lit("new")), tmp_path / "test.csv")
    data = TableData(
        train_path=str(tmp_path / "train.csv"), test_path=str(tmp_path / "test.csv"), target="y"
    )
    data.setup()
    assert data.count_rows() == {
        "train": 51,
        "validation": 9,
        "test": 10,
    }
    features, target = data.split_tensors("test")
    assert target.tolist() == [0, 1] * 5
    assert features[:, 1:].sum() == 0
    write_frame(frame.drop("c"), tmp_path / "test.csv")
    other = TableData(path=data.paths["train"], test_path=data.paths["test"], target="y")
    with pytest.raises(UserError, match=r"test\.csv lacks 'c'"):
        other.setup()
    write_frame(frame.head(0), tmp_path / "test.csv")
    with pytest.raises(UserError, match=r"test\.csv has a header and no rows"):
        other.setup()


@pytest.mark.parametrize(
    ("training", "other", "codes"),
    [
        (["0000", "A001", "0003"], ["0000", "0003", ""], [0, 1, None]),
        (["0000", "A001", "0003"], ['"0000"', "3", ""], [0, 3, None]),
        (["1", "2", "3"], ["1.0", "3.0", ""], [0, 2, None]),
        (["1.0", "2.0", "3.5"], ["1", "2", "7"], [0, 1, 3]),
        (["1.0", "2.0", "3.5"], ["1.00", "3.50", "2"], [0, 2, 1]),
        (["true", "False", "TRUE"], ["True", "False", ""], [1, 0, None]),
        (["true", "no", "1.50"], ["true", "true", ""], [2, 2, None]),
    ],
)
def test_labels_in_another_file_are_those_of_the_training(tmp_path, training, other, codes):
    """Though its values alone would be taken for another type; a missing one is missing."""
    (tmp_path / "train.csv").write_text("c,y\n" + "".join(f"{c},0.5\n{c},1.5\n" for c in training))
    (tmp_path / "test.csv").write_text("c,y\n" + "".join(f"{c},0.5\n" for c in other))
    table = TableData(
        path=str(tmp_path / "train.csv"),
        test_path=str(tmp_path / "test.csv"),
        target="y",
        categorical_columns=["c"],
    ).load()
    found = table.features[table.preset_splits["test"], 0].tolist()
    assert [None if code != code else code for code in found] == codes  # NaN is not itself


def test_nan_is_no_label():
    """It is missing, as it is among numbers."""
    frame = pl.DataFrame({"c": [2.0, float("nan"), None, 1.5], "y": [0.5, 1.5, 2.5, 3.5]})
    table = table_from_frame(frame, target="y", categorical_columns=["c"], name="f.parquet")
    assert table.columns.categories == {"c": ["1.5", "2"]}
    assert table.features[:, 0].isnan().tolist() == [False, True, True, False]
    assert encode_table(frame, table.columns, Origin("g.parquet")).features.nansum() == 1


def test_a_category_of_which_no_value_is_known_is_reported(tmp_path, caplog):
    """With the file and some values; one that is known, or none at all, says nothing."""
    columns = Columns(["c"], "y", "regression", [], {"c": ["a", "b"]})
    for name, values in (("some", ["a", "z"]), ("no", [None, None]), ("other", ["x", "z"])):
        pl.DataFrame({"c": values, "z": 0}).write_parquet(tmp_path / f"{name}.parquet")
        read_frame_like(tmp_path / f"{name}.parquet", columns, TextFormat())
    assert caplog.messages == [
        "other.parquet: column 'c' holds 'x', 'z', none of which is among the 2 labels of the "
        "training: 'a', 'b'"
    ]


@pytest.mark.parametrize("classes", [["007", "A1"], ["false", "true"], ["False", "True"]])
def test_classes_in_another_file_are_those_of_the_training(tmp_path, classes):
    """Though the values of the target there are another type."""
    columns = Columns(["x"], "y", "binary", classes)
    (tmp_path / "f.csv").write_text(f"x,y\n1,{classes[0]}\n2,{classes[0]}\n")
    frame, origin = read_frame_like(tmp_path / "f.csv", columns, TextFormat())
    assert encode_table(frame, columns, origin).target.tolist() == [0, 0]


def test_the_group_of_a_row_is_no_feature(tmp_path):
    """And may not be missing."""
    frame = pl.DataFrame({"x": range(30), "who": [f"p{i // 3}" for i in range(30)], "y": range(30)})
    write_frame(frame.with_columns(pl.col("y") + 0.5), tmp_path / "f.csv")
    data = TableData(path=str(tmp_path / "f.csv"), target="y", group_column="who")
    assert data.load().columns.features == ["x"]
    data.setup()
    assert all(n % 3 == 0 for n in data.count_rows().values())
    frame = frame.with_columns(who=pl.when(pl.col("x") == 4).then(None).otherwise("who"))
    write_frame(frame, tmp_path / "f.csv")
    with pytest.raises(UserError, match=r"f\.csv: data\.group_column 'who' is missing in row 5"):
        data.load()


@pytest.mark.parametrize(
    ("rows_a_label", "n_encoded_labels"),
    [([3] * 600, 0), ([20] * 600, 256), ([3] * 400 + [20] * 100, 100), ([20] * 100, 100)],
)
def test_the_number_of_encoded_labels_is_logged(tmp_path, caplog, rows_a_label, n_encoded_labels):
    """Where there are none, a warning says so."""
    labels = [f"l{k}" for k, n in enumerate(rows_a_label) for _ in range(n)]
    frame = pl.DataFrame({"c": labels, "x": range(len(labels)), "y": range(len(labels))})
    write_frame(frame.with_columns(pl.col("y") + 0.5), tmp_path / "f.csv")
    data = TableData(path=str(tmp_path / "f.csv"), target="y")
    data.setup()
    n = len(rows_a_label)
    more = f", {n_encoded_labels} told apart" if n_encoded_labels < n else ""
    assert f"('c' of {n} labels{more})" in data.describe()
    warning = f"column 'c': none of its {n} labels has data.min_frequency=5 training rows"
    assert (warning in caplog.text) == (n_encoded_labels == 0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("column", "fault", "message"),
    [
        ("x", float("inf"), "column 'x' is infinite"),
        ("y", None, "the target 'y' is missing"),
        ("code", "?", r"column 'code' holds numbers, but '\?'"),
    ],
)
def test_of_several_files_the_one_with_the_fault_is_named(tmp_path, column, fault, message, stream):
    """With the row in that file."""
    values = {"x": [float(i) for i in range(50)], "code": [str(i % 7) for i in range(50)]}
    first = pl.DataFrame({**values, "y": [i / 3 for i in range(50)]})
    is_row = pl.int_range(pl.len()) == 20
    second = first.with_columns(pl.when(is_row).then(pl.lit(fault)).otherwise(column).alias(column))
    write_frame(first, tmp_path / "f-1.parquet")
    write_frame(second, tmp_path / "f-2.parquet")
    data = TableData(path=str(tmp_path / "f-*.parquet"), target="y", stream=stream)
    with pytest.raises(UserError, match=rf"^f-2\.parquet: {message}.* in row 21"):
        data.setup()


@pytest.mark.parametrize(
    ("labels", "written"),
    [
        (["1", "2", "3"], [1.0, 2.0, 3.0]),
        (["1.0", "2.0", "3.0"], [1, 2, 3]),
        (["1", "2", "A"], ["1.0", "2.00", "A"]),
        (["1e+16", "1.5", "2.0"], [10.0**16, 1.5, 2.0]),
        (["01", "1", "1.0"], ["01", "1", "1.0"]),
    ],
)
def test_a_whole_number_is_one_label_with_a_point_and_without(labels, written):
    """In the target and in a column of categories; zeros before a number make another label."""
    frame = pl.DataFrame({"c": written, "y": written})
    columns = Columns(["c"], "y", "multiclass", labels, {"c": labels})
    table = encode_table(frame, columns, Origin("f.csv"))
    assert table.target.tolist() == [0, 1, 2]
    assert table.features[:, 0].tolist() == [0, 1, 2]


def test_what_is_no_label_stays_unknown():
    """Though it looks like one: padded numbers, fractions, words."""
    columns = Columns(["c"], "y", "regression", [], {"c": ["1", "02"]})
    frame = pl.DataFrame({"c": ["01", "2", "1.5", "one"], "y": [0.0] * 4})
    assert encode_table(frame, columns, Origin("f.csv")).features[:, 0].tolist() == [2.0] * 4


@pytest.mark.parametrize(
    "classes",
    [[1, 2], [-1, 1], [0.5, 1.0], [False, True], ["no", "yes"], ["1", "2"], ["False", "True"]],
)
def test_classes_have_the_type_of_the_target(classes):
    """Also after the columns were in a checkpoint; numbers that are words stay words."""
    frame = pl.DataFrame({"x": [0.5, 1.5, 2.5, 3.5], "y": classes * 2})
    columns = table_from_frame(frame, target="y", task="binary", name="f.parquet").columns
    found = Columns(**columns.to_dict()).class_series
    assert found.to_list() == classes
    assert found.dtype == frame["y"].dtype


@pytest.mark.parametrize(
    "classes",
    [["01", "02"], ["1", "1" * 20], ["1", "x"], ["False", "no"], ["1", "None"], ["0.5", "nan"]],
)
def test_classes_that_no_number_is_written_as_are_words(classes):
    """No digit of a label is lost."""
    assert Columns(["x"], "y", "binary", classes).class_series.to_list() == classes


@pytest.mark.parametrize(
    ("written", "labels"),
    [
        (["1", "02", "010"], ["1", "2", "10"]),
        (["01", "02", "x"], ["01", "02", "x"]),
        ([" a", "b", "b "], [" a", "b", "b "]),
        (["0x1F", "1,5", "2 kg"], ["0x1F", "1,5", "2 kg"]),
        (["", "a", "b"], ["", "a", "b"]),
    ],
)
def test_the_table_of_an_older_run_is_read_as_it_was(tmp_path, written, labels):
    """By the columns that it knows; those that are others now are refused."""
    quoted = [word if word.isdigit() else f'"{word}"' for word in written]
    rows = [f"{i / 7},{word},{i % 2}\n" for i, word in enumerate(quoted * 20)]
    (tmp_path / "f.csv").write_text("x,c,y\n" + "".join(rows))
    data = TableData(path=str(tmp_path / "f.csv"), target="y", categorical_columns=["c"])
    data.known_columns = Columns(["x", "c"], "y", "binary", ["0", "1"], {"c": labels})
    data.setup()
    assert data.load().columns.categories == {"c": labels}
    data = TableData(path=str(tmp_path / "f.csv"), target="y", categorical_columns=["c"])
    data.known_columns = Columns(["x", "c"], "y", "binary", ["0", "2"], {"c": labels})
    with pytest.raises(UserError, match="not read as it was in the training"):
        data.setup()
