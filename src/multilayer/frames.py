"""Tables in files: read and written by the ending of their name. No torch here."""

import os
from pathlib import Path

import polars as pl

from multilayer.errors import UserError

ENDINGS = (".csv", ".tsv", ".parquet", ".arrow")


def check_input(path: str | Path) -> Path:
    """The path, if it is a file of a kind that can be read.

    Raises `UserError`.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file")
    if not path.is_file():
        raise UserError(f"{path}: not a file")
    return check_ending(path)


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
    return check_ending(path)


def check_ending(path: Path) -> Path:
    """The path, if its name ends in what is known."""
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"{path}: its name must end in {', '.join(ENDINGS)}")
    return path


def read_frame(path: str | Path) -> pl.DataFrame:
    """The table in a file.

    Raises `UserError` for a file that is missing, of another kind, or unreadable.
    """
    path = check_input(path)
    try:
        match path.suffix.lower():
            case ".parquet":
                return pl.read_parquet(path)
            case ".arrow":
                return pl.read_ipc(path)
            case ending:
                # Types are taken from the whole file: a word in its last row is found too.
                separator = "\t" if ending == ".tsv" else ","
                return pl.read_csv(path, separator=separator, infer_schema_length=None)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise UserError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error


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
                table.write_csv(partial, separator="\t" if ending == ".tsv" else ",")
        os.replace(partial, path)
    except (pl.exceptions.PolarsError, OSError) as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written: {error}") from error
