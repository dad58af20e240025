"""Images in MNIST's file format."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from multilayer.core.errors import UserError
from multilayer.data import IdxData
from multilayer.data.mnist_idx import _DTYPES, _read_idx

CODES = {name.strip(">"): code for code, name in _DTYPES.items()}


def write_idx(path: Path, values: np.ndarray) -> None:
    """As the format's description says, packed where the name says so."""
    dtype = values.dtype.newbyteorder(">")
    head = struct.pack(
        f">BBBB{values.ndim}I", 0, 0, CODES[dtype.str[1:]], values.ndim, *values.shape
    )
    raw = head + values.astype(dtype).tobytes()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


def write_set(
    folder: Path, ending: str = "", prefixes: tuple[str, ...] = ("train", "t10k")
) -> None:
    """Three classes of small images, 60 to train on and 15 to test."""
    rng = np.random.default_rng(0)
    for prefix, n in zip(("train", "t10k"), (60, 15), strict=True):
        labels = np.arange(n, dtype=np.uint8) % 3 + 4
        images = rng.integers(0, 200, (n, 4, 5), dtype=np.uint8) + labels[:, None, None]
        if prefix in prefixes:
            write_idx(folder / f"{prefix}-images-idx3-ubyte{ending}", images)
            write_idx(folder / f"{prefix}-labels-idx1-ubyte{ending}", labels)


@pytest.mark.parametrize("name", sorted(CODES))
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_what_was_written_is_read(name: str, ending: str, tmp_path: Path) -> None:
    """Each type, in any number of dimensions."""
    for shape in ((3,), (2, 3, 4)):
        values = np.arange(np.prod(shape)).reshape(shape).astype(name)
        write_idx(tmp_path / f"x{ending}", values)
        found = _read_idx(tmp_path / f"x{ending}")
        assert found.dtype == values.dtype
        np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_folder_is_a_data_set(ending: str, tmp_path: Path) -> None:
    """With its own test rows; pixels are features, and labels classes."""
    write_set(tmp_path, ending)
    data = IdxData(path=str(tmp_path))
    data.setup()
    assert data.count_rows() == {
        "train": 51,
        "validation": 9,
        "test": 15,
    }
    assert data.columns.classes == ["4", "5", "6"]
    assert len(data.columns.features) == 20
    assert data.split_tensors("test")[1].tolist() == [0, 1, 2] * 5
    images = torch.from_numpy(_read_idx(tmp_path / f"t10k-images-idx3-ubyte{ending}")).float()
    expected = data.preprocessing(images.flatten(1))
    torch.testing.assert_close(data.split_tensors("test")[0], expected)


def test_without_test_files_test_rows_are_divided_off(tmp_path: Path) -> None:
    """As from any table."""
    write_set(tmp_path, prefixes=("train",))
    data = IdxData(path=str(tmp_path))
    data.setup()
    assert list(data.count_rows().values()) == [42, 9, 9]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no file of the idx format"),
        (b"PK\x03\x04 a zip file", "is no file of the idx format"),
        (b"\0\0\x08\x01\0\0\0\x3c" + b"\x04" * 59, "has 67 bytes, its header says 68"),
        (b"\0\0\x08\x03\0\0\0", "its header says"),
        (b"\0\0\x08\x01\0\0\0\x02\x04\x05", "expected one label for each of 60 images"),
        (b"\0\0\x08\x01\0\0\0\x3c" + b"\x04" * 60, "the labels have 1 class"),
        (None, "holds no train-labels-idx1-ubyte, nor train-labels-idx1-ubyte.gz"),
    ],
)
def test_a_bad_file_is_reported(content: bytes | None, message: str, tmp_path: Path) -> None:
    """By its name, what it is, and what was expected."""
    write_set(tmp_path)
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.unlink()
    if content is not None:
        labels.write_bytes(content)
    with pytest.raises(UserError, match=message):
        IdxData(path=str(tmp_path)).setup()


@pytest.mark.parametrize("is_short", [True, False])
def test_a_packed_file_that_is_damaged_is_reported(tmp_path: Path, is_short: bool) -> None:
    """A download that broke off, or whose content is something else from some byte on."""
    write_set(tmp_path, ".gz")
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    content = path.read_bytes()
    path.write_bytes(content[:-20] if is_short else content[:12] + b"\xff" * (len(content) - 12))
    with pytest.raises(UserError, match=r"t10k-images-idx3-ubyte\.gz: cannot be read"):
        IdxData(path=str(tmp_path)).setup()


def test_a_label_that_no_training_row_has_is_reported(tmp_path: Path) -> None:
    """With the image."""
    write_set(tmp_path)
    labels = np.array([4] * 14 + [9], dtype=np.uint8)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", labels)
    with pytest.raises(UserError, match="label 9 of image 15 is in no training row"):
        IdxData(path=str(tmp_path)).setup()
