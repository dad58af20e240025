"""Images with labels in the file format of MNIST (LeCun, Cortes and Burges 1998)."""

import gzip
import zlib
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from multilayer.core.errors import UserError
from multilayer.core.text import counted
from multilayer.data.dataset import Dataset
from multilayer.data.table import Columns, Table, concat_splits
from multilayer.nn.losses import Task

_DTYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
"""numpy's names for the types of values, by their codes in a file."""

_TRAINING = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
_TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


class IdxDataset(Dataset):
    """The images in a folder with MNIST's files, plain or compressed by gzip.

    The test rows are those of the `t10k` files if there are any; otherwise they are taken from the
    training rows.

    Args:
        path: The folder, with `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, or with
            `.gz` appended to the names.
        split: The arguments of `Dataset`.

    >>> IdxDataset(path="mnist", batch_size=256).batch_size
    256
    """

    def __init__(self, *, path: str, **split: Any) -> None:
        super().__init__(**split)
        self.path = Path(path)

    def load(self) -> Table:
        """Read the folder: a feature for each pixel, row by row."""
        images, labels = _read_pair(self.path, _TRAINING)
        known = torch.unique(labels)
        if len(known) < 2:
            raise UserError(
                f"{self.path}: the labels have {counted(len(known), 'class')}, needs at least 2"
            )
        names = [f"pixel_{i}" for i in range(images.shape[1])]
        task: Task = "binary" if len(known) == 2 else "multiclass"
        columns = Columns(names, "label", task, [str(label) for label in known.tolist()], times={})
        training = Table(images, torch.searchsorted(known, labels), columns)
        if _find(self.path, _TEST[0]) is None:
            return training
        images, labels = _read_pair(self.path, _TEST)
        problem = ""
        if images.shape[1] != len(names):
            problem = (
                f"images of {counted(images.shape[1], 'pixel')}, the training's have {len(names)}"
            )
        for row in (~torch.isin(labels, known)).nonzero().flatten().tolist()[:1]:
            problem = f"label {int(labels[row])} of image {row + 1} is in no training row"
        if problem:
            raise UserError(f"{self.path / _TEST[1]}: {problem}")
        test = Table(images, torch.searchsorted(known, labels), columns)
        return concat_splits({"train": training, "test": test})


def _read_pair(folder: Path, names: tuple[str, str]) -> tuple[Tensor, Tensor]:
    """Images as `(N, n_pixels)` float32 and their labels `(N,)` int64.

    Raises:
        UserError: If a file is missing, or they do not belong together.
    """
    arrays = []
    for name in names:
        path = _find(folder, name)
        if path is None:
            raise UserError(f"{folder}: holds no {name}, nor {name}.gz")
        arrays.append(torch.from_numpy(_read_idx(path)))
    images, labels = arrays
    if labels.shape != images.shape[:1]:
        raise UserError(
            f"{folder / names[1]}: has the shape {tuple(labels.shape)}, expected one label for "
            f"each of {counted(len(images), 'image')}"
        )
    return images.float().flatten(1), labels.long()


def _find(folder: Path, name: str) -> Path | None:
    """The file of a name, plain or compressed."""
    paths = (folder / name, folder / f"{name}.gz")
    return next((path for path in paths if path.is_file()), None)


def _read_idx(path: Path) -> Any:
    """The array in a file: two zeros, the type, the number of dimensions, each size, the values.

    Raises:
        UserError: For a file of another kind or one that is truncated.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _DTYPES:
        raise UserError(f"{path}: is no file of the idx format")
    start = 4 + 4 * raw[3]
    dtype = np.dtype(_DTYPES[raw[2]])
    shape = np.frombuffer(raw[4:start], ">u4").tolist() if len(raw) >= start else []
    expected = start + prod(shape) * dtype.itemsize
    if len(raw) != expected:
        raise UserError(f"{path}: has {len(raw)} bytes, its header says {expected}")
    values = np.frombuffer(raw, dtype, offset=start).reshape(shape)
    return values.astype(dtype.newbyteorder("="))
