"""Tables in files: read and written by the ending of their name. No torch here."""

import os
from collections.abc import Sequence
from glob import glob
from pathlib import Path

import polars as pl

from multilayer.csv_faults import check_header, check_rows, find_fault
from multilayer.errors import UserError, first_line, quoted

WRITABLE = (".csv", ".tsv", ".parquet", ".arrow")
READABLE = (*WRITABLE, *(f"{text}.{packed}" for text in ("csv", "tsv") for packed in ("gz", "zst")))
SEPARATORS = {".csv": ",", ".tsv": "\t"}
WILDCARDS = frozenset("*?[")


def check_input(path: str | Path) -> list[Path]:
    """The files that a path names, if they are of a kind that can be read; it may hold wildcards.

    Raises `UserError`.
    """
    path = Path(path)
    files = [path]
    if WILDCARDS & set(str(path)) and not path.exists():
        files = [Path(name) for name in sorted(glob(str(path), recursive=True))]
        if not files:
            raise UserError(f"{path}: no file is called so")
    for file in files:
        if not file.exists():
            raise UserError(f"{file}: no such file")
        if not file.is_file():
            raise UserError(f"{file}: not a file")
        check_ending(file, READABLE)
    return files


def check_output(path: str | Path) -> Path:
    """The path, if a table can be written there.

    Raises `UserError`.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: a folder; expected the name of a file")
    if not path.parent.is_dir():
        raise UserError(f"{path}: the folder {path.parent} does not exist")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{path}: the folder {path.parent} may not be written to")
    return check_ending(path, WRITABLE)


def check_ending(path: Path, endings: Sequence[str]) -> Path:
    """The path, if its name ends in one of these."""
    if not path.name[1:].lower().endswith(tuple(endings)):  # ".csv" alone is no ending
        raise UserError(f"{path}: its name must end in {', '.join(endings)}")
    return path


def read_frame(path: str | Path) -> pl.DataFrame:
    """The table in a file, or in several that a path with wildcards names, one below the other.

    Raises `UserError` for a file that is missing, of another kind, or unreadable.
    """
    first, *others = check_input(path)
    whole = read_file(first)
    frames = [whole]
    for file in others:
        frame = read_file(file)
        problem = difference(whole, frame)
        if problem:
            raise UserError(f"{file}: {problem}, unlike {first}")
        frames.append(frame)
    return pl.concat(map(untyped_where_empty, frames), how="vertical_relaxed") if others else whole


def untyped_where_empty(frame: pl.DataFrame) -> pl.DataFrame:
    """The table with no type for columns without any value, which are read as words."""
    empty = [name for name in frame.columns if frame[name].null_count() == frame.height]
    return frame.with_columns(pl.lit(None).alias(name) for name in empty)


def difference(first: pl.DataFrame, other: pl.DataFrame) -> str | None:
    """What keeps two tables from being one below the other; None where nothing does."""
    lacking = [name for name in first.columns if name not in other.columns]
    if lacking:
        return f"it lacks {quoted(lacking)}"
    more = [name for name in other.columns if name not in first.columns]
    if more:
        return f"it has {quoted(more)}"
    if first.columns != other.columns:
        return "it has its columns in another order"
    for name, dtype in other.schema.items():
        expected = first.schema[name]
        empty = first[name].null_count() == first.height or other[name].null_count() == other.height
        if (dtype == pl.String) != (expected == pl.String) and not empty:
            return f"its column {name!r} holds {dtype} instead of {expected}"
    return None


def read_file(path: Path) -> pl.DataFrame:
    """The table in one file.

    Raises `UserError`.
    """
    separator = SEPARATORS.get(text_ending(path))
    try:
        if path.suffix.lower() == ".parquet":
            return pl.read_parquet(path, glob=False)
        if separator is None:
            return pl.read_ipc(path)
        check_header(path, separator)
        # Types are taken from the whole file: a word in its last row is found too.
        frame = pl.read_csv(path, separator=separator, infer_schema_length=None, glob=False)
        return check_rows(path, separator, frame)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        fault = find_fault(path, separator) if separator else None
        raise UserError(f"{path}: {fault or f'cannot be read: {first_line(error)}'}") from error


def text_ending(path: Path) -> str:
    """`.csv` or `.tsv`, if the file is text, compressed or not; else its ending."""
    *_, ending = [each for each in path.suffixes if each.lower() not in (".gz", ".zst")] or [""]
    return ending.lower()


def write_frame(table: pl.DataFrame, path: str | Path) -> None:
    """Write a table, beside its place first and then renamed.

    Raises `UserError` where it cannot be written.
    """
    path = check_output(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        match path.suffix.lower():
            case ".parquet":
                table.write_parquet(partial)
            case ".arrow":
                table.write_ipc(partial)
            case ending:
                table.write_csv(partial, separator=SEPARATORS[ending])
        os.replace(partial, path)
    except (pl.exceptions.PolarsError, OSError) as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written: {error}") from error
