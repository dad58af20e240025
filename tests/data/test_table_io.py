"""Tables read from and written to files, and what is said of those that cannot be."""

import gzip
import os
import re

import polars as pl
import pytest

from multilayer.core.errors import UserError
from multilayer.data import table_io as frames
from multilayer.data.table_files import _WRITABLE, check_input, check_output
from multilayer.data.table_io import (
    _BATCH_VALUES,
    _ROWS_FOR_TYPES,
    TableFile,
    write_frame,
)
from multilayer.data.text_format import TextFormat

FRAME = pl.DataFrame(
    {
        "whole": [1, 2, 3],
        "real": [0.1, None, -2.5e-8],
        "word": ["plain", 'with "quotes", and commas', "über\nzwei Zeilen"],
        "yes": [True, False, True],
    }
)


def read_frame(path, *options):
    """The rows alone."""
    return frames.read_frame(path, *options)[0]


def packed(content, ending):
    """Bytes as a file of this ending holds them."""
    if ending.lower().endswith(".gz"):
        return gzip.compress(content)
    if ending.lower().endswith(".zst"):  # a frame of blocks that are not compressed
        frame = b"\x28\xb5\x2f\xfd\xa0" + len(content).to_bytes(4, "little")
        for start in range(0, max(1, len(content)), 2**17):
            block = content[start : start + 2**17]
            is_last = start + 2**17 >= len(content)
            frame += (len(block) << 3 | is_last).to_bytes(3, "little") + block
        return frame
    return content


def files_in(folder):
    """Every name in a folder, hidden ones too."""
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("ending", _WRITABLE)
def test_what_is_written_is_read_back(tmp_path, ending):
    """Values, gaps, types and names survive each format, and no other file is left."""
    path = tmp_path / f"table{ending}"
    write_frame(FRAME, path)
    assert read_frame(path).equals(FRAME)
    assert read_frame(str(path)).schema == FRAME.schema
    assert files_in(tmp_path) == [path.name]


@pytest.mark.parametrize("ending", [".CSV", ".Tsv", ".PARQUET", ".Arrow"])
def test_endings_may_be_in_capitals(tmp_path, ending):
    """A file from another system reads the same."""
    path = tmp_path / f"table{ending}"
    write_frame(FRAME, path)
    assert read_frame(path).equals(FRAME)


def test_tsv_is_separated_by_tabs(tmp_path):
    """A comma is then part of a value."""
    path = tmp_path / "table.tsv"
    path.write_text("a\tb\n1,5\t2\n")
    assert read_frame(path).rows() == [("1,5", 2)]
    write_frame(pl.DataFrame({"a": ["1,5"], "b": [2]}), path)
    assert path.read_text() == "a\tb\n1,5\t2\n"


def test_csv_of_a_spreadsheet_is_read(tmp_path):
    """A byte-order mark and Windows line ends are no part of names and values."""
    path = tmp_path / "table.csv"
    path.write_bytes(b"\xef\xbb\xbfa,b\r\n1,x\r\n2,y\r\n")
    assert read_frame(path).to_dict(as_series=False) == {"a": [1, 2], "b": ["x", "y"]}


@pytest.mark.parametrize("n", [_ROWS_FOR_TYPES - 1, 2 * _ROWS_FOR_TYPES])
@pytest.mark.parametrize(
    ("last", "dtype"), [("2.5", pl.Float64), ("word", pl.String), ("", pl.Int64)]
)
def test_type_of_a_csv_column_follows_all_its_rows(tmp_path, last, dtype, n):
    """A last row that differs from all before it decides the type too."""
    path = tmp_path / "table.csv"
    path.write_text("a,b\n" + "1,1\n" * n + f"{last},1\n")
    frame = read_frame(path)
    assert frame.schema["a"] == dtype
    assert frame.height == n + 1


@pytest.mark.parametrize(("last", "dtype"), [("7", pl.Int64), ("w", pl.String), ("", pl.String)])
def test_a_column_that_begins_with_many_gaps_has_the_type_of_its_values(tmp_path, last, dtype):
    """Its first rows say nothing of it."""
    path = tmp_path / "table.csv"
    path.write_text("a,b\n" + ",1\n" * _ROWS_FOR_TYPES + f"{last},1\n")
    assert read_frame(path).schema["a"] == dtype


@pytest.mark.parametrize("name", ["", "rows", "len", "literal"])
def test_a_column_may_be_called_anything(tmp_path, name):
    """Also nothing, as the index is that pandas writes."""
    path = tmp_path / "table.csv"
    path.write_text(f"{name},a\n0,x\n1,y\n")
    assert read_frame(path).to_dict(as_series=False) == {name: [0, 1], "a": ["x", "y"]}


@pytest.mark.parametrize("n", [1, 2 * _ROWS_FOR_TYPES])
def test_columns_of_words_are_read_as_they_are_written(tmp_path, n):
    """Also from several files, and where other columns decide the types; not of Parquet."""
    (tmp_path / "a.csv").write_text("a,b\n" + "007,1\n" * n + "08,1.5\n")
    (tmp_path / "b.csv").write_text("a,b\n,2\n")
    frame = read_frame(tmp_path / "*.csv", None, {"a": "category", "none": "category"})
    assert frame["a"].to_list() == ["007"] * n + ["08", None]
    assert frame["b"].to_list() == [1.0] * n + [1.5, 2.0]
    pl.DataFrame({"a": [7]}).write_parquet(tmp_path / "a.parquet")
    assert read_frame(tmp_path / "a.parquet", None, {"a": "category"}).rows() == [(7,)]


def test_a_table_is_read_in_parts(tmp_path):
    """All its rows in their order, with all their digits."""
    n = _BATCH_VALUES
    frame = pl.DataFrame({"a": range(n), "b": [0.1] * n})
    for ending in _WRITABLE:
        write_frame(frame, tmp_path / f"t{ending}")
        table = TableFile(tmp_path / f"t{ending}")
        parts = list(table.batches(table.files[0]))
        assert len(parts) > 1
        assert pl.concat(parts).equals(frame)


def test_a_short_row_far_down_is_reported(tmp_path):
    """Also in a file that is read in many parts, and whose last column has gaps."""
    path = tmp_path / "table.csv"
    rows = ["1,2,3"] * _BATCH_VALUES
    rows[5] = "1,2,"
    path.write_text("\n".join(["a,b,c", *rows]) + "\n\n\n")
    assert read_frame(path).height == len(rows)
    rows[-7] = "1,2"
    path.write_text("\n".join(["a,b,c", *rows]) + "\n")
    with pytest.raises(UserError, match=f"row {len(rows) - 6} has 2 values, the header has 3"):
        read_frame(path)


def test_csv_with_a_header_alone_has_no_rows(tmp_path):
    """Its columns are known."""
    path = tmp_path / "table.csv"
    path.write_text("a,b\n")
    assert (read_frame(path).columns, read_frame(path).height) == (["a", "b"], 0)


@pytest.mark.parametrize("check", [check_input, read_frame])
def test_missing_file_is_reported(tmp_path, check):
    """The message is the path and what is wrong."""
    path = tmp_path / "none.csv"
    with pytest.raises(UserError, match=r"none\.csv: no such file"):
        check(path)


@pytest.mark.parametrize("check", [check_input, read_frame])
def test_folder_is_no_input(tmp_path, check):
    """Even if its name ends like a table's."""
    path = tmp_path / "table.csv"
    path.mkdir()
    with pytest.raises(UserError, match=r"table\.csv: not a file"):
        check(path)


@pytest.mark.parametrize("name", ["t.xlsx", "t", "t.csv.bz2", ".csv", ".csv.gz", "mycsv.gz"])
@pytest.mark.parametrize("check", [check_input, read_frame])
def test_unknown_ending_of_an_input_is_reported(tmp_path, check, name):
    """The message lists the endings that are known."""
    path = tmp_path / name
    path.write_text("a\n1\n")
    known = r"\.csv, \.tsv, \.parquet, \.arrow, \.csv\.gz, \.csv\.zst, \.tsv\.gz, \.tsv\.zst$"
    with pytest.raises(UserError, match=f"{name}: its name must end in {known}"):
        check(path)


@pytest.mark.parametrize("ending", _WRITABLE)
def test_empty_file_cannot_be_read(tmp_path, ending):
    """A file without a byte is one message, in each format."""
    path = tmp_path / f"table{ending}"
    path.touch()
    with pytest.raises(UserError, match=f"table{ending}: (cannot be read: .|empty, expected a h)"):
        read_frame(path)


def test_columns_of_one_name_are_named_with_their_places(tmp_path):
    """In files that are no text, too: blanks around a name do not count."""
    pl.DataFrame({"x": [1], "y": [2], " x": [3]}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"several columns are called 'x' \(columns 1, 3\)"):
        read_frame(tmp_path / "a.parquet")


@pytest.mark.parametrize("name", ["my.CSV", "my2.csv", "mycsv"])
def test_a_file_of_nearly_the_same_name_is_named(tmp_path, name):
    """As it is written from where the command runs."""
    (tmp_path / "my.csv").write_text("a\n1\n")
    near = re.escape(f"{tmp_path / name}: no such file, did you mean ") + ".*my.csv"
    with pytest.raises(UserError, match=near):
        read_frame(tmp_path / name)


@pytest.mark.parametrize("name", ["-", "/dev/stdin", "/dev/fd/0"])
def test_a_stream_is_no_file(name):
    """It could be read once only."""
    with pytest.raises(UserError, match="it is read more than once: save it as one first"):
        read_frame(name)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("ending", [".parquet", ".arrow"])
def test_truncated_file_cannot_be_read(tmp_path, ending, share):
    """A download that broke off is one message of one line."""
    path = tmp_path / f"table{ending}"
    write_frame(pl.DataFrame({"a": range(1000), "b": ["x", "y"] * 500}), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=f"table{ending}: cannot be read: .") as error:
        read_frame(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
@pytest.mark.parametrize("ending", [".csv.gz", ".csv.zst", ".tsv.gz"])
def test_truncated_text_cannot_be_read(tmp_path, ending, share):
    """Also where it breaks off far behind the rows that decide the types."""
    separator = "\t" if ending.startswith(".tsv") else ","
    rows = "".join(f"{row}{separator}{row * 7919 % 10007}\n" for row in range(200_000))
    content = packed(f"a{separator}b\n{rows}".encode(), ending)
    path = tmp_path / f"table{ending}"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=f"table{ending}: (cannot be read: .|row)") as error:
        read_frame(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("ending", [".parquet", ".arrow"])
def test_text_is_no_binary_table(tmp_path, ending):
    """A CSV renamed is told apart from what its name says."""
    path = tmp_path / f"table{ending}"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=f"table{ending}: cannot be read: ."):
        read_frame(path)


@pytest.mark.parametrize("ending", [".csv.gz", ".csv.zst", ".tsv.gz", ".TSV.ZST", ".csv"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2\n1,2,3\n", "row 2 has 3 values, the header has 2 names"),
        (b"a,b,c\n1,2,3\n4,5\n", "row 2 has 2 values, the header has 3 names"),
        (b"a,b\n1,2\n\n3,4\n", "row 2 is blank"),
        (b'a,b\n1,"x\ny"\n3\n', "row 2 has 1 value, the header has 2 names"),
        (b"a,b\n1,x\n1,\xff\xfe\n", "row 2 is not UTF-8; save the file as UTF-8"),
        (b"a,b,a\n1,2,3\n", r"several columns are called 'a' \(columns 1, 3\)"),
        (b"a, a\n1,2\n", r"several columns are called 'a' \(columns 1 to 2\)"),
        (b"a,,b, ,b\n1,2,3,4,5\n", r"called '' \(columns 2, 4\), 'b' \(columns 3, 5\)"),
        ("a,b\n1,2\n".encode("utf-16"), "not UTF-8; save the file as UTF-8"),
        (b'a,b\n1,"x\n2,3\n', "."),
    ],
)
def test_malformed_text_is_reported_with_its_row(tmp_path, ending, content, message):
    """Too many values, too few, blank lines, other encodings, names of several columns."""
    path = tmp_path / f"table{ending}"
    if ending.lower().startswith(".tsv"):
        content = content.replace(b",", b"\t") if b"\x00" not in content else content
    path.write_bytes(packed(content, ending))
    with pytest.raises(UserError, match=f"(?i)table{ending}: .*{message}"):
        read_frame(path)


@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_a_replacement_character_is_a_character(tmp_path, ending):
    """It stands for bytes that somebody else could not decode, and is UTF-8 itself."""
    path = tmp_path / f"table{ending}"
    path.write_bytes(packed("a,b\ufffd\n\ufffd,x\ny,\n".encode(), ending))
    assert read_frame(path).rows() == [("\ufffd", "x"), ("y", None)]
    path.write_bytes(packed("a,b\ufffd\n\ufffd,x\ny\n".encode(), ending))
    with pytest.raises(UserError, match="row 2 has 1 value, the header has 2 names"):
        read_frame(path)
    path.write_bytes(packed("a,b\n\ufffd,x\n".encode() + b"y,\xff\n", ending))
    with pytest.raises(UserError, match="is not UTF-8; save the file as UTF-8"):
        read_frame(path)


@pytest.mark.parametrize(
    "row",
    [
        '5" pipe,2',
        '"5" pipe",2',
        '2,5" pipe',
        '2,"5" pipe"',
        '2,"pipe',
        '"big" pipe,2',
        '2,"a" b,"',
    ],
)
@pytest.mark.parametrize("n_after", [0, 1, 20 * _ROWS_FOR_TYPES])
@pytest.mark.parametrize("before", ["x,1", '"x\ny ""z""",1', 'the "big" one,1', "9,2"])
def test_a_quote_within_a_value_is_reported_with_its_row(tmp_path, row, n_after, before):
    """And how it is to be written; rows before that may be read are passed over."""
    path = tmp_path / "table.csv"
    path.write_text("a,b\n" + f"{before}\n" * 6 + f"{row}\n" + "y,3\n" * n_after)
    with pytest.raises(UserError, match=r'row 7 has a quote .* twice: "5"" pipe"'):
        read_frame(path)


def test_pairs_of_quotes_within_values_and_long_values_are_read(tmp_path):
    """They are looked at since a value of the last column is missing."""
    path = tmp_path / "table.csv"
    long = "z" * 200_000
    path.write_text(f'a,b\nthe "big" one,x\n"{long}",\n')
    assert read_frame(path).rows() == [('the "big" one', "x"), (long, None)]


@pytest.mark.parametrize(
    ("name", "separator", "message"),
    [
        ("table.csv", ";", "separated by semicolons; they must be by commas"),
        ("table.csv", "\t", "separated by tabs; they must be by commas"),
        ("table.csv.gz", "|", "separated by bars; they must be by commas"),
        ("table.tsv", ",", "separated by commas; they must be by tabs"),
    ],
)
def test_columns_that_are_separated_otherwise_are_reported(tmp_path, name, separator, message):
    """Not read as one column; among other columns a name may hold anything."""
    path = tmp_path / name
    path.write_bytes(packed(f"a{separator}b\n1{separator}2\n".encode(), path.suffix))
    with pytest.raises(UserError, match=f"{name}: its columns are {message}"):
        read_frame(path)
    (tmp_path / "other.csv").write_text(f'"a{separator}b",c\n1,2\n')
    assert read_frame(tmp_path / "other.csv").columns == [f"a{separator}b", "c"]


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".csv.zst"])
def test_blank_lines_at_the_end_are_no_rows(tmp_path, ending):
    """And a value that is missing in the last column is one."""
    path = tmp_path / f"table{ending}"
    path.write_bytes(packed(b"a,b\n1,2\n3,\n\n\n", ending))
    assert read_frame(path).rows() == [(1, 2), (3, None)]


def test_several_files_are_one_table(tmp_path):
    """In the order of their names, packed or not; types are widened where they differ."""
    (tmp_path / "b.csv").write_text("x,y,z\n3,0.5,7\n")
    (tmp_path / "a.csv.gz").write_bytes(packed(b"x,y,z\n1,2,\n2,3,\n", ".gz"))
    found = read_frame(tmp_path / "[ab].csv*")
    assert found.rows() == [(1, 2.0, None), (2, 3.0, None), (3, 0.5, 7)]
    with pytest.raises(UserError, match="no file matches this path"):
        read_frame(tmp_path / "*.parquet")


def test_files_with_their_columns_in_another_order_are_one_table(tmp_path):
    """As `predict` takes them; each value stays with its name, and so in what is as written."""
    (tmp_path / "a.csv").write_text("x,y,z\n1,a,0.5\n")
    (tmp_path / "b.csv").write_text("z,x , y\n1.5,2,b\n,3,c\n\n")
    pl.DataFrame({"y": ["d"], "z": [2.5], "x": [4]}).write_parquet(tmp_path / "c.parquet")
    found = read_frame(tmp_path / "*.*")
    assert found.columns == ["x", "y", "z"]
    assert found.rows() == [(1, "a", 0.5), (2, "b", 1.5), (3, "c", None), (4, "d", 2.5)]
    written = frames.read_as_written(tmp_path / "[ab].csv", TextFormat())
    assert written.columns == ["x", "y", "z"]
    assert written.rows() == [("1", "a", "0.5"), ("2", "b", "1.5"), ("3", "c", None)]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("x\n1\n", "it lacks 'y'"),
        ("x,y,z\n1,2,3\n", "it has 'z', unlike"),
        ("x,y\n1,2024-05-01\n", "its column 'y' holds Date instead of Int64"),
    ],
)
def test_files_that_do_not_go_together_are_reported(tmp_path, other, message):
    """The one that differs from the first, and in what."""
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "b.csv").write_text(other)
    with pytest.raises(UserError, match=message):
        read_frame(tmp_path / "*.csv")


UTC = pl.Datetime("us", "UTC")


@pytest.mark.parametrize(
    ("first", "other"),
    [
        (pl.Int64(), pl.String()),
        (pl.Int64(), pl.Enum(["a"])),
        (pl.Enum(["a"]), pl.Enum(["b"])),
        (pl.List(pl.Int64), pl.Int64()),
        (pl.List(pl.Int64), pl.String()),
        (pl.Datetime("us"), UTC),
        (UTC, pl.Datetime("us", "Europe/Berlin")),
        (pl.Date(), pl.Int64()),
        (pl.Float32(), pl.Time()),
        (pl.Duration(), pl.Date()),
        (pl.Boolean(), pl.Datetime()),
    ],
)
def test_types_that_do_not_go_together_are_reported(tmp_path, first, other):
    """Also where polars has a type for both, but days and numbers do not mean the same."""
    for ending in (".parquet", ".arrow"):
        write_frame(pl.DataFrame(schema={"x": first}), tmp_path / f"a{ending}")
        write_frame(pl.DataFrame(schema={"x": other}), tmp_path / f"b{ending}")
        with pytest.raises(UserError) as error:
            read_frame(tmp_path / f"*{ending}")
        expected = f"b{ending}: its column 'x' holds {other} instead of {first}, unlike"
        assert expected in str(error.value)


@pytest.mark.parametrize(
    ("first", "other", "both"),
    [
        (pl.Categorical(), pl.String(), pl.String()),
        (pl.String(), pl.Enum(["a", "b"]), pl.String()),
        (pl.Enum(["a", "b"]), pl.Enum(["a", "b"]), pl.Enum(["a", "b"])),
        (pl.Null(), pl.Enum(["a", "b"]), pl.Enum(["a", "b"])),
    ],
)
def test_words_of_several_types_are_read_together(tmp_path, first, other, both):
    """As plain text where the types differ."""
    values = [None, None] if first == pl.Null else ["a", "b"]
    pl.DataFrame({"x": values}, schema={"x": first}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"x": ["b", "a"]}, schema={"x": other}).write_parquet(tmp_path / "b.parquet")
    frame = read_frame(tmp_path / "*.parquet")
    assert frame.schema["x"] == both
    assert frame["x"].cast(pl.String).to_list() == [*values, "b", "a"]


@pytest.mark.parametrize("late", ["a.csv", "b.csv"])
def test_a_late_word_in_one_of_several_files_makes_all_words(tmp_path, late):
    """The first rows alone would say that the files do not go together."""
    for name in ("a.csv", "b.csv"):
        rows = "1,1\n" * 2 * _ROWS_FOR_TYPES + "A1,1\n" if name == late else "B2,1\n"
        (tmp_path / name).write_text(f"x,y\n{rows}")
    frame = read_frame(tmp_path / "*.csv")
    assert frame.schema == {"x": pl.String, "y": pl.Int64}
    assert set(frame["x"]) == {"1", "A1", "B2"}


def test_a_file_whose_name_has_brackets_is_read(tmp_path):
    """As it is, where there is one."""
    (tmp_path / "a[1].csv").write_text("x\n1\n")
    assert read_frame(tmp_path / "a[1].csv").rows() == [(1,)]


@pytest.mark.parametrize("check", [check_output, lambda path: write_frame(FRAME, path)])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder.csv", "a folder; expected the name of a file"),
        ("none/table.csv", "none does not exist"),
        ("table.xlsx", r"must end in \.csv, \.tsv, \.parquet, \.arrow"),
        ("table", r"must end in \.csv, \.tsv, \.parquet, \.arrow"),
        ("mycsv", r"must end in \.csv, \.tsv, \.parquet, \.arrow"),
        (".csv", r"must end in \.csv, \.tsv, \.parquet, \.arrow"),
        ("file.csv/table.csv", r"file\.csv does not exist"),
    ],
)
def test_an_output_that_cannot_be_written_is_reported(tmp_path, check, name, message):
    """Before anything is computed, and without writing anything."""
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file.csv").touch()
    with pytest.raises(UserError, match=message):
        check(tmp_path / name)
    assert files_in(tmp_path) == ["file.csv", "folder.csv"]


def test_folder_that_may_not_be_written_to_is_reported(tmp_path, monkeypatch):
    """What the system says of the folder is passed on; made up, since root may write anywhere."""
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(UserError, match="may not be written to"):
        check_output(tmp_path / "table.csv")


@pytest.mark.parametrize("ending", _WRITABLE)
def test_written_table_replaces_the_one_before(tmp_path, ending):
    """A longer file leaves nothing behind."""
    path = tmp_path / f"table{ending}"
    write_frame(pl.concat([FRAME] * 50), path)
    write_frame(FRAME, path)
    assert read_frame(path).equals(FRAME)


@pytest.mark.parametrize("ending", [".csv", ".tsv"])
def test_table_that_cannot_be_written_leaves_the_old_one(tmp_path, ending):
    """Lists do not fit into text: the file before stays whole, and nothing is left beside it."""
    path = tmp_path / f"table{ending}"
    write_frame(FRAME, path)
    with pytest.raises(UserError, match=f"table{ending}: cannot be written: ."):
        write_frame(pl.DataFrame({"a": [[1, 2], [3]]}), path)
    assert read_frame(path).equals(FRAME)
    assert files_in(tmp_path) == [path.name]


@pytest.mark.parametrize("ending", _WRITABLE)
def test_write_that_breaks_off_leaves_nothing_half_written(tmp_path, monkeypatch, ending):
    """If the disk fails at the last moment there is no file, neither whole nor in part."""

    def fail(source, destination):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UserError, match="No space left on device"):
        write_frame(FRAME, tmp_path / f"table{ending}")
    assert files_in(tmp_path) == []
