"""Dates and times: the same numbers from any file, and nothing else taken for one."""

import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import torch

from multilayer.core.errors import UserError
from multilayer.data.table import Columns
from multilayer.data.table_builder import encode_features
from multilayer.data.tabular import read_frame_like
from multilayer.data.text_format import TextFormat

from .tables import read_as, table_of, written

pytestmark = pytest.mark.usefixtures("few_rows_for_types")

STARTS = datetime(2024, 2, 28, 23, 59, 30)
TIMES = [STARTS + timedelta(hours=5 * i, seconds=i) for i in range(60)]

HOURS = [datetime(2024, 3, 30, 23, 30) + timedelta(hours=7 * i) for i in range(60)]
DATES = {
    "without": pl.Series(HOURS).dt.cast_time_unit("us"),
    "with": pl.Series(HOURS).dt.cast_time_unit("ms").dt.replace_time_zone("Europe/Berlin"),
}


@pytest.mark.parametrize(
    "column",
    [
        pl.Series(TIMES).dt.date(),
        pl.Series(TIMES).dt.cast_time_unit("us"),
        pl.Series(TIMES).dt.cast_time_unit("ms").dt.replace_time_zone("Europe/Berlin"),
        pl.Series(TIMES).dt.time(),
    ],
)
def test_times_are_the_same_numbers_in_text_as_in_parquet(
    tmp_path: Path, column: pl.Series
) -> None:
    """What was trained on the one predicts from the other."""
    frame = pl.DataFrame({"t": column, "y": [0, 1] * 30})
    tables = [table_of(written(frame, tmp_path, form)) for form in ("csv", "parquet")]
    assert tables[0].columns == tables[1].columns
    assert tables[0].columns.categories == {}
    torch.testing.assert_close(tables[0].features, tables[1].features)


@pytest.mark.parametrize(("then", "now"), [("2024-05-01", "2024"), ("2024", "2024-05-01")])
def test_dates_are_no_numbers_of_another_kind(tmp_path: Path, then: str, now: str) -> None:
    """A year is not taken for a day, nor a day for a year; an older run cannot tell."""
    (tmp_path / "t.csv").write_text("t,x,y\n" + f"{then},1.5,0\n,2.5,1\n" * 30)
    (tmp_path / "f.csv").write_text(f"t,x,y\n{now},1.5,0\n")
    columns = table_of(str(tmp_path / "t.csv")).columns
    columns = Columns(**columns.to_dict())
    frame, origin = read_frame_like(tmp_path / "f.csv", columns, TextFormat())
    with pytest.raises(UserError, match=r"column 't' must hold [\w ]+, as in training, found"):
        encode_features(frame, columns, origin)
    assert encode_features(frame, replace(columns, times=None), origin).shape == (1, 2)
    (tmp_path / "f.csv").write_text("t,x,y\n,1.5,0\n")
    frame, origin = read_frame_like(tmp_path / "f.csv", columns, TextFormat())
    assert encode_features(frame, columns, origin)[:, 0].isnan().all()


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("2024-02-29", None, "2024-02-29T00:00:00"),
        ("2024-02-29 05:06", None, "2024-02-29T05:06:00"),
        ("2024-02-29T05:06:07.25", None, "2024-02-29T05:06:07.25"),
        ("2024-02-29T05:06:07Z", "UTC", "2024-02-29T05:06:07"),
        ("2024-02-29 05:06:07+02:00", "UTC", "2024-02-29T03:06:07"),
        ("2024-02-29T05:06-0130", "UTC", "2024-02-29T06:36:00"),
        ("2023-02-29", None, None),
        ("29.02.2024", None, None),
        ("1-2-3", None, None),
        ("20240229", None, None),
        ("\uff12024-02-29", None, None),
    ],
)
def test_iso_times_alone_are_times(text: str, zone: str | None, expected: str | None) -> None:
    """With a zone or without one, not both; what may be meant in two ways stays a word."""
    frame = pl.DataFrame({"t": [text]})
    for other in (None, "UTC"):
        found = frame.select(TextFormat().parse(pl.col("t"), pl.Datetime("us", other))).item()
        right = expected if zone == other else None
        if right is not None:
            right = datetime.fromisoformat(right + "+00:00" * (zone == "UTC"))
        assert found == right


@pytest.mark.parametrize("now", ["csv", "parquet"])
@pytest.mark.parametrize("then", ["csv", "parquet", "stream"])
@pytest.mark.parametrize("zone", DATES)
def test_dates_with_a_time_zone_are_no_dates_without_one(
    tmp_path: Path, zone: str, then: str, now: str
) -> None:
    """They would be some hours off; those of two zones are the same in UTC."""
    path = written(pl.DataFrame({"t": DATES[zone], "y": [0.5, 1.5] * 30}), tmp_path, then)
    columns = table_of(path, stream=then == "stream").columns
    kinds = {name: f"dates {name} a time zone" for name in ("with", "without")}
    kinds["without"] = "dates without a time zone"
    assert columns.times == {"t": kinds[zone]}
    for other, dates in DATES.items():
        frame = pl.DataFrame({"t": dates, "y": [0.5, 1.5] * 30})
        path = written(frame, tmp_path, now)
        if other == zone:
            expected = HOURS[0].timestamp() / 86400 - (zone == "with") / 24
            assert read_as(columns, path).features[0, 0].item() == pytest.approx(expected)
            continue
        said = f"column 't' must hold {kinds[zone]}, as in training, found {kinds[other]}"
        with pytest.raises(UserError, match=said):
            read_as(columns, path)
        older = replace(columns, times={"t": "dates"})  # which does not know
        assert read_as(older, path).features.shape == (60, 1)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_dates_of_which_some_have_a_time_zone_are_refused(tmp_path: Path, form: str) -> None:
    """In one file and in several."""
    texts = [f"{start.isoformat()}{'+01:00' * (i < 40)}" for i, start in enumerate(HOURS)]
    path = written(pl.DataFrame({"t": texts, "y": [0, 1] * 30}), tmp_path, form)
    with pytest.raises(UserError, match=r"dates with a time zone, but '2024-\S+' in row 41;"):
        table_of(path)
    for part, rows in (("u-1", slice(0, 40)), ("u-2", slice(40, 60))):
        frame = pl.DataFrame({"t": texts, "y": [0, 1] * 30})[rows]
        path = written(frame, tmp_path, form)
        Path(path).rename(tmp_path / f"{part}.{form}")
    with pytest.raises(UserError, match=r"u-\d\.\w+: .*'t' holds|instead of"):
        table_of(str(tmp_path / f"u-*.{form}"))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("dates without a time zone", ["01/03/2024", "28/03/2024"]),
        ("dates without a time zone", ["3/1/24", "12/31/24"]),
        ("dates without a time zone", ["2024/03/01", "2024/03/31"]),
        ("dates without a time zone", ["01.03.2024 5:30", "31.03.2024 15:30"]),
        ("dates without a time zone", ["1 Mar 2024", "2 April 2024"]),
        ("dates without a time zone", ["Mar 1, 2024", "Dec 24, 2024"]),
        ("dates without a time zone", ["2024-01-31 24:00", "2024-01-30 24:00"]),
        ("dates with a time zone", ["01/03/2024 13:45Z", "02/03/2024 13:45Z"]),
        ("times of day", ["9:05", "10:05"]),
        ("times of day", ["9:05 PM", "10:05 am"]),
    ],
)
def test_dates_that_are_not_iso_are_no_category(
    tmp_path: Path, kind: str, words: list[str]
) -> None:
    """They are refused, with how to write them."""
    path = written(pl.DataFrame({"t": words * 30, "y": [0.5, 1.5, 2.5] * 20}), tmp_path, "tsv")
    said = f"t.tsv: column 't' holds {kind}, but '{words[0]}' in row 1; write {kind} as"
    with pytest.raises(UserError, match=re.escape(said)):
        table_of(path)
    assert len(table_of(path, categorical_columns=["t"]).columns.categories["t"]) == 2


def test_a_stray_value_among_dates_is_reported(tmp_path: Path) -> None:
    """And a missing one is missing."""
    days = [str(time.date()) for time in TIMES]
    days[40] = "NaT"
    frame = pl.DataFrame({"t": days, "y": [0, 1] * 30})
    assert table_of(written(frame, tmp_path, "csv")).features[:, 0].isnan().sum() == 1
    days[50] = "soon"
    frame = pl.DataFrame({"t": days, "y": [0, 1] * 30})
    with pytest.raises(UserError, match="holds dates without a time zone, but 'soon' in row 51"):
        table_of(written(frame, tmp_path, "csv"))


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        ("2024-05-{:02}", "01/01/2020", "zone, found '01/01/2020' in row 2 among dates"),
        ("2024-05-{:02}", "?", "2026-03-01T13:45, and leave it empty if it is missing"),
        ("{:02}:30", "25:05", "write times of day as 13:45, and leave it empty if it is missing"),
    ],
)
def test_a_stray_value_among_times_of_another_file_is_reported(
    tmp_path: Path, then: str, now: str, said: str
) -> None:
    """What such a column must hold is what it held in training."""
    times = [then.format(i % 20 + 1) for i in range(60)]
    frame = pl.DataFrame({"t": times, "y": [0, 1] * 30})
    columns = table_of(written(frame, tmp_path, "csv")).columns
    (tmp_path / "f.csv").write_text(f"t\n{times[0]}\n{now}\n")
    frame, origin = read_frame_like(tmp_path / "f.csv", columns, TextFormat())
    with pytest.raises(UserError, match=re.escape(said)):
        encode_features(frame, columns, origin)
