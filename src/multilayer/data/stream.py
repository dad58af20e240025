"""A table larger than memory: Parquet files that are read in pieces while a network trains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from multilayer.data.intake import Bools, Intake
from multilayer.data.preprocessing import Preprocessing, preprocess
from multilayer.data.table import MAX_INTEGER_CLASSES, Columns, Split, read_table
from multilayer.errors import UserError
from multilayer.frames import TableFile, refusing, scan
from multilayer.losses import Task

PIECE_VALUES = 2**21
"""Values a piece, at most: 8 MB of float32."""

HELD_OUT_BYTES = 2**26
"""What the validation rows may take in memory, as float32, and the test rows, and the training
rows that the preprocessing is fitted to."""

TRAIN, VALIDATION, TEST, SAMPLE = range(4)
"""What a row is for; a row of the sample is a training row too."""

Parts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Piece:
    """Rows of a file that are read at once."""

    file: Path
    start: int
    n_rows: int


class TableStream:
    """The training rows of Parquet files, a piece at a time, and a sample of all their rows.

    What a row is for is drawn for each row of a piece, from the seed and the number of the piece
    alone: nothing has to be remembered of it. Validation and test rows, and a sample of the
    training rows, are kept in memory; of a large file they are a smaller share than was asked for.

    file: the files.
    fractions: of the rows that are to be "validation" and "test" rows.
    seed: of what is drawn.

    Raises `UserError` for a file that is no Parquet.
    """

    def __init__(self, file: TableFile, fractions: Mapping[Split, float], seed: int) -> None:
        for each in file.files:
            if each.suffix.lower() != ".parquet":
                raise UserError(
                    f"data.stream=true reads Parquet, not {each.name}; write it once as Parquet: "
                    f"python -c \"import polars; polars.scan_csv('{each.name}')"
                    f".sink_parquet('{each.name.partition('.')[0]}.parquet')\""
                )
        self.file = file
        self.seed = seed
        width = len(file.schema)
        self.pieces = [piece for each in file.files for piece in pieces_of(each, width)]
        n_rows = sum(piece.n_rows for piece in self.pieces)
        most = HELD_OUT_BYTES / (4 * width * max(1, n_rows))
        held_out = [min(fractions.get(split, 0.0), most) for split in ("validation", "test")]
        sample = min(1 - sum(held_out), most)
        self.bounds = np.cumsum([1 - sum(held_out) - sample, *held_out])
        self.n_training: list[int] = []

    def parts(self, number: int) -> Parts:
        """What each row of a piece is for, `(n_rows,)`."""
        drawn = np.random.default_rng((self.seed, number)).random(self.pieces[number].n_rows)
        return np.searchsorted(self.bounds, drawn, side="right")

    def survey(self, intake: Intake) -> dict[Split, Tensor]:
        """Look at every row once, and take in those that are kept in memory.

        Returns the numbers of the validation and test rows among them. The sample has at least one
        row of each class.

        Raises `UserError` for what cannot be trained on, wherever it is.
        """
        self.columns = [*intake.features, intake.target]
        self.n_training = []
        kept, classes = [], Classes(intake.task)
        console = Console(stderr=True)
        for number in track(
            range(len(self.pieces)),
            description="looking at all rows",
            console=console,
            disable=not console.is_terminal,
            transient=True,
        ):
            rows, parts = self.read(number), self.parts(number)
            is_training = (parts == TRAIN) | (parts == SAMPLE)
            parts[classes.first_rows(rows[intake.target], is_training)] = SAMPLE
            intake.add(rows, parts != TRAIN)
            kept.append(parts[parts != TRAIN])
            self.n_training.append(int(is_training.sum()))
        if not self.pieces:
            raise UserError(f"{intake.name} has a header and no rows")
        found = torch.from_numpy(np.concatenate(kept))
        for part, split in ((VALIDATION, "validation"), (TEST, "test"), (SAMPLE, "training")):
            is_wanted = part == SAMPLE or self.bounds[part] > self.bounds[part - 1]
            if is_wanted and not (found == part).any():
                raise UserError(
                    f"{intake.name}: of {len(found)} rows none is left to be a {split} row; "
                    "data.stream=true is for larger tables"
                )
        return {
            "validation": (found == VALIDATION).nonzero().flatten(),
            "test": (found == TEST).nonzero().flatten(),
        }

    def read(self, number: int) -> pl.DataFrame:
        """The rows of a piece."""
        piece = self.pieces[number]
        with refusing(piece.file):
            rows = scan(piece.file, self.file.schema).select(self.columns)
            return rows.slice(piece.start, piece.n_rows).collect()

    def training_rows(
        self, number: int, columns: Columns, preprocessing: Preprocessing
    ) -> tuple[Tensor, Tensor]:
        """The training rows of a piece as the network takes them: features and target."""
        parts = self.parts(number)
        rows = self.read(number).filter((parts == TRAIN) | (parts == SAMPLE))
        table = read_table(rows, columns, self.pieces[number].file.name)
        return preprocess(preprocessing, table)


def pieces_of(file: Path, width: int) -> Sequence[Piece]:
    """A file of so many columns in pieces."""
    with refusing(file):
        n = int(scan(file).select(pl.len()).collect().item())
    step = max(1, PIECE_VALUES // width)
    return [Piece(file, start, min(step, n - start)) for start in range(0, n, step)]


class Classes:
    """The classes of a target that were seen so far; none where it is a number to regress on."""

    def __init__(self, task: Task | None) -> None:
        self.task = task
        self.seen: set[object] = set()

    def first_rows(self, target: pl.Series, is_training: Bools) -> list[int]:
        """The training rows that are the first of their class."""
        is_many = target.dtype.is_integer() and len(self.seen) > MAX_INTEGER_CLASSES
        is_number = target.dtype.is_float() or (self.task is None and is_many)
        if self.task == "regression" or is_number:
            return []
        rows = pl.DataFrame({"class": target, "row": np.arange(len(target))}).filter(is_training)
        firsts = rows.drop_nulls().unique("class", keep="first").rows()
        new = {value: row for value, row in firsts if value not in self.seen}
        self.seen.update(new)
        return list(new.values())
