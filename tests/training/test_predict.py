"""Predictions for tables: the columns, the formats, and what is refused."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from sklearn.datasets import load_diabetes, load_iris

from multilayer.data.dataset import EVALUATION_BATCH_SIZE
from multilayer.training.predict import predict

from ..conftest import Run
from ..trained import train_in
from .test_evaluate import printed


@pytest.fixture
def flowers(tmp_path: Path) -> pl.DataFrame:
    """The features of iris as a user would have them: another order, and a column more."""
    iris = load_iris()
    frame = pl.DataFrame(iris.data, schema=list(iris.feature_names))
    names = pl.Series("flower", [f"flower {index}" for index in range(frame.height)])
    frame = frame.select(reversed(frame.columns)).with_columns(names)
    frame.write_csv(tmp_path / "flowers.csv")
    frame.write_parquet(tmp_path / "flowers.parquet")
    return frame


def test_predictions_are_those_of_the_evaluation(
    multilayer: Run, finished_run: Path, flowers: pl.DataFrame, tmp_path: Path
) -> None:
    """The share of right predictions over all rows is the accuracy that the splits add up to."""
    outcome = multilayer(
        "predict", f"run={finished_run}", "input=flowers.csv", "output=predicted.csv"
    )
    assert outcome.code == 0, outcome.err
    assert "150 predictions in predicted.csv" in outcome.out
    table = pl.read_csv(tmp_path / "predicted.csv")
    iris = load_iris()
    right = (table["prediction"].to_numpy() == iris.target_names[iris.target]).sum()
    metrics = json.loads((finished_run / "metrics.json").read_text())
    rows = json.loads((finished_run / "manifest.json").read_text())["rows"]
    assert right == round(sum(metrics[split]["accuracy"] * n for split, n in rows.items()))


def test_nothing_is_dropped_in_predictions(tmp_path: Path, flowers: pl.DataFrame) -> None:
    """A network with dropout and batch normalization is rebuilt as it was evaluated.

    Each row has the same prediction twice, and by itself as among the others.
    """
    words = ["data=iris", "model.dropout=0.5", "model.normalization=batch"]
    train_in(tmp_path / "run", *words, "trainer.max_epochs=2")
    question = {
        "run": str(tmp_path / "run"),
        "trusted_packages": [],
        "device": "cpu",
        "keep_input_columns": False,
    }
    flowers.head(1).write_parquet(tmp_path / "one.parquet")

    def predicted(name: str) -> pl.DataFrame:
        words = {"input": str(tmp_path / name), "output": str(tmp_path / "out.parquet")}
        return predict(question | words)

    every = predicted("flowers.parquet")
    assert_frame_equal(predicted("flowers.parquet"), every)
    assert_frame_equal(predicted("one.parquet"), every.head(1), rel_tol=1e-5)


def test_probabilities_sum_to_one_and_name_the_prediction(
    multilayer: Run, finished_run: Path, flowers: pl.DataFrame, tmp_path: Path
) -> None:
    """A column for each class; the prediction is the likeliest."""
    multilayer("predict", f"run={finished_run}", "input=flowers.parquet", "output=p.parquet")
    table = pl.read_parquet(tmp_path / "p.parquet")
    classes = ["setosa", "versicolor", "virginica"]
    probabilities = table.select(f"probability_{name}" for name in classes).to_numpy()
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    likeliest = np.array(classes)[probabilities.argmax(1)]
    assert (likeliest == table["prediction"].to_numpy()).all()


def test_the_inputs_columns_are_kept_or_left_out(
    multilayer: Run, finished_run: Path, flowers: pl.DataFrame, tmp_path: Path
) -> None:
    """`keep_input_columns=false` writes predictions alone."""
    question = ["predict", f"run={finished_run}", "input=flowers.csv"]
    assert multilayer(*question, "output=all.tsv").code == 0
    assert multilayer(*question, "output=alone.arrow", "keep_input_columns=false").code == 0
    kept = pl.read_csv(tmp_path / "all.tsv", separator="\t")
    alone = pl.read_ipc(tmp_path / "alone.arrow")
    assert kept.columns == flowers.columns + alone.columns
    assert alone.columns[0] == "prediction"
    assert kept["flower"].to_list() == flowers["flower"].to_list()


@pytest.mark.parametrize("missing", ["[]", "[-1,'?']"])
def test_the_inputs_columns_stay_as_they_are_written(
    multilayer: Run, tmp_path: Path, missing: str
) -> None:
    """Only predictions are added: no zero, no space and no word of the user's own is lost."""
    Path("t.csv").write_text("x,y\n" + "0.25,a\n1.25,b\n" * 30)
    own = [
        "id, score,flag,note,x,when",
        "00000,-1,TRUE, a,2.50,2026-01-02 03:04",
        "00001,?,false,NA,1e3,",
    ]
    Path("new.csv").write_text("\n".join([*own, "", ""]))
    table = ["data=table", "data.path=t.csv", "data.target=y", f"data.missing={missing}"]
    assert multilayer("train", *table, "trainer.max_epochs=1", "hydra.run.dir=run").code == 0
    outcome = multilayer("predict", "run=run", "input=new.csv", "output=p.csv")
    assert outcome.code == 0, outcome.err
    lines = Path("p.csv").read_text().splitlines()
    assert [line[: len(start)] for line, start in zip(lines, own, strict=True)] == own
    assert lines[0] == f"{own[0]},prediction,probability_a,probability_b"
    typed = pl.DataFrame(
        {"x": ["NA", "1"], "n": [-1, 2], "e": pl.Series(["?", "u "], dtype=pl.Enum(["?", "u "]))}
    )
    typed.write_parquet("new.parquet")
    assert multilayer("predict", "run=run", "input=new.parquet", "output=p.parquet").code == 0
    assert_frame_equal(pl.read_parquet("p.parquet").select(typed.columns), typed)


def test_files_of_unlike_types_are_predicted_on_together(multilayer: Run, tmp_path: Path) -> None:
    """Numbers that are text in one file alone; the names are those of the first file."""
    pl.DataFrame({"x": [0.0, 1.0] * 30, "y": ["a", "b"] * 30}).write_parquet("t.parquet")
    table = ["data=table", "data.path=t.parquet", "data.target=y", "hydra.run.dir=run"]
    assert multilayer("train", *table, "trainer.max_epochs=1").code == 0
    pl.DataFrame({"x": [0.5]}).write_parquet("new-1.parquet")
    Path("new-2.csv").write_text(" x\n2.50\n")
    outcome = multilayer("predict", "run=run", "input=new-*", "output=p.csv")
    assert outcome.code == 0, outcome.err
    assert pl.read_csv("p.csv", infer_schema=False)["x"].to_list() == ["0.5", "2.50"]


def test_missing_values_are_predicted_on(
    multilayer: Run, finished_run: Path, flowers: pl.DataFrame, tmp_path: Path
) -> None:
    """The median of the training rows stands in, and nothing is NaN."""
    width = "sepal width (cm)"
    flowers.with_columns(pl.lit(None).alias(width)).write_csv(tmp_path / "gaps.csv")
    outcome = multilayer("predict", f"run={finished_run}", "input=gaps.csv", "output=p.csv")
    assert outcome.code == 0, outcome.err
    table = pl.read_csv(tmp_path / "p.csv").select(pl.col("^probability_.*$"))
    assert np.isfinite(table.to_numpy()).all()


def test_regression_and_binary_tables(multilayer: Run, tmp_path: Path) -> None:
    """A value in the target's units; two probabilities."""
    for data in ("diabetes", "pass_class"):
        assert multilayer("train", f"data={data}", "trainer.max_epochs=3").code == 0
    classes, values = sorted(tmp_path.glob("runs/*/*"))[::-1]
    pl.DataFrame({"hours": [1.0, 45.0], "lectures": [1, 25]}).write_csv(tmp_path / "me.csv")
    assert multilayer("predict", f"run={classes}", "input=me.csv", "output=p.csv").code == 0
    table = pl.read_csv(tmp_path / "p.csv")
    assert table["prediction"].to_list() == ["no", "yes"]
    assert table["probability_no"][0] + table["probability_yes"][0] == pytest.approx(1)

    diabetes = load_diabetes()
    pl.DataFrame(diabetes.data, schema=diabetes.feature_names).write_parquet(tmp_path / "d.parquet")
    assert multilayer("predict", f"run={values}", "input=d.parquet", "output=v.csv").code == 0
    predicted = pl.read_csv(tmp_path / "v.csv")["prediction"]
    target = diabetes.target
    assert predicted.min() > target.min() - 100
    assert predicted.max() < target.max() + 100
    assert np.corrcoef(predicted, target)[0, 1] > 0.5


def test_labels_that_look_like_numbers_are_predicted_on(multilayer: Run, tmp_path: Path) -> None:
    """A file that happens to hold none but digits is read as the training was, and kept so."""
    frame = pl.DataFrame({"c": ["0000", "0003", "A001"] * 60, "y": ["no", "yes", "no"] * 60})
    frame.write_csv(tmp_path / "t.csv")
    (tmp_path / "digits.csv").write_text("c,y\n0000,no\n0003,yes\n")
    table = ["data=table", "data.path=t.csv", "data.target=y", "data.categorical_columns=[c]"]
    assert multilayer("train", *table, "trainer.max_epochs=30").code == 0
    (run,) = tmp_path.glob("runs/*/*")
    outcome = multilayer("predict", f"run={run}", "input=digits.csv", "output=p.csv")
    assert "none of which" not in outcome.err
    found = pl.read_csv(tmp_path / "p.csv", infer_schema=False)
    assert found.select("c", "prediction").rows() == [("0000", "no"), ("0003", "yes")]
    outcome = multilayer("evaluate", f"run={run}", "data.path=digits.csv")
    assert "none of which" not in outcome.err
    assert re.search(r"accuracy\s*│\s*1 ", outcome.out)
    (tmp_path / "other.csv").write_text("c,y\n3,yes\n4,no\n")
    outcome = multilayer("predict", f"run={run}", "input=other.csv", "output=q.csv")
    assert "other.csv: column 'c' holds '3', '4', none of which is among the 3" in outcome.err


@pytest.mark.parametrize("link", ["same", "dots", "symbolic", "hard", "wildcard"])
def test_the_input_is_never_replaced(
    multilayer: Run, finished_run: Path, flowers: pl.DataFrame, tmp_path: Path, link: str
) -> None:
    """By whatever name the output leads to it."""
    before = (tmp_path / "flowers.csv").read_bytes()
    (tmp_path / "folder").mkdir()
    source, target = "flowers.csv", "other.csv"
    match link:
        case "same":
            target = str(tmp_path / "flowers.csv")
        case "dots":
            target = "folder/../flowers.csv"
        case "symbolic":
            (tmp_path / target).symlink_to(tmp_path / source)
        case "hard":
            (tmp_path / target).hardlink_to(tmp_path / source)
        case "wildcard":
            source, target = "flow*.csv", "flowers.csv"
    outcome = multilayer("predict", f"run={finished_run}", f"input={source}", f"output={target}")
    assert outcome.code == 2
    assert "the input itself, which would be lost; choose another output" in outcome.err
    assert (tmp_path / "flowers.csv").read_bytes() == before


def test_every_row_of_a_long_file_is_predicted_and_evaluated(
    multilayer: Run, finished_run: Path, flowers: pl.DataFrame, tmp_path: Path
) -> None:
    """More than are evaluated at a time: each row has the prediction that it has alone."""
    n = EVALUATION_BATCH_SIZE // 150 + 2
    iris = load_iris()
    species = pl.Series("target", [str(iris.target_names[index]) for index in iris.target])
    wrong = species.reverse()  # of the last rows alone
    rows = flowers.with_columns(species)
    long = pl.concat([*[rows] * (n - 1), rows.with_columns(wrong)])
    long.write_parquet(tmp_path / "long.parquet")
    question = ["predict", f"run={finished_run}", "keep_input_columns=false"]
    assert multilayer(*question, "input=flowers.parquet", "output=short.csv").code == 0
    outcome = multilayer(*question, "input=long.parquet", "output=long.csv")
    assert f"{150 * n:,} predictions" in outcome.out
    short, found = pl.read_csv("short.csv"), pl.read_csv("long.csv")
    assert_frame_equal(found, pl.concat([short] * n), abs_tol=1e-6)
    outcome = multilayer("evaluate", f"run={finished_run}", "data.path=long.parquet")
    right = (found["prediction"] == long["target"]).mean()
    assert float(printed(outcome.out)["accuracy"]) == pytest.approx(right, abs=1e-5)


@pytest.mark.parametrize(
    ("classes", "dtype"), [([1, 2], pl.Int64), ([True, False], pl.Boolean), (["1", "2"], pl.String)]
)
def test_predictions_have_the_type_of_the_target(
    multilayer: Run, tmp_path: Path, classes: list[object], dtype: type[pl.DataType]
) -> None:
    """In a file that holds types; and a file with the classes as numbers is evaluated."""
    frame = pl.DataFrame({"x": [0.0, 1.0] * 30, "y": classes * 30})
    frame.write_parquet("t.parquet")
    table = ["data=table", "data.path=t.parquet", "data.target=y", "hydra.run.dir=run"]
    assert multilayer("train", *table, "trainer.max_epochs=30", "optimizer.lr=0.05").code == 0
    outcome = multilayer("predict", "run=run", "input=t.parquet", "output=p.parquet")
    assert outcome.code == 0, outcome.err
    found = pl.read_parquet("p.parquet")["prediction"]
    assert found.dtype == dtype
    assert found.to_list() == frame["y"].to_list()
    if dtype != pl.Boolean:
        frame.with_columns(pl.col("y").cast(pl.Float64)).write_csv("floats.csv")
        outcome = multilayer("evaluate", "run=run", "data.path=floats.csv")
        assert float(printed(outcome.out)["accuracy"]) == 1, outcome.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["input=no.csv", "output=p.csv"], ["no.csv", "no such file"]),
        (["input=flower.csv", "output=p.csv"], ["did you mean input=flowers.csv?"]),
        (["input=flowers.csv", "output=no/p.csv"], ["no/p.csv", "does not exist"]),
        (["input=flowers.csv", "output=p.xls"], ["p.xls", ".parquet"]),
        (["input=flowers.csv", "output=."], ["folder"]),
        (["input=narrow.csv", "output=p.csv"], ["narrow.csv", "sepal length (cm)"]),
        (["input=words.csv", "output=p.csv"], ["words.csv", "sepal width (cm)", "numbers"]),
        (["input=cut.parquet", "output=p.csv"], ["cut.parquet", "cannot be read"]),
        (["input=header.csv", "output=p.csv"], ["header.csv has a header and no rows"]),
        (["input=void.csv", "output=p.csv"], ["void.csv", "empty, expected a header"]),
        (["input=again.csv", "output=p.csv"], ["'prediction'", "keep_input_columns=false"]),
    ],
)
def test_a_table_that_does_not_fit_is_one_error(
    multilayer: Run,
    finished_run: Path,
    flowers: pl.DataFrame,
    tmp_path: Path,
    arguments: list[str],
    expected: list[str],
) -> None:
    """It names the file and the column, and writes nothing."""
    flowers.drop("sepal length (cm)").write_csv(tmp_path / "narrow.csv")
    word = pl.lit("wide").alias("sepal width (cm)")
    flowers.with_columns(word).write_csv(tmp_path / "words.csv")
    flowers.with_columns(pl.lit(1).alias("prediction")).write_csv(tmp_path / "again.csv")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "flowers.parquet").read_bytes()[:800])
    flowers.head(0).write_csv(tmp_path / "header.csv")
    (tmp_path / "void.csv").touch()
    before = set(tmp_path.iterdir())
    outcome = multilayer("predict", f"run={finished_run}", *arguments)
    assert outcome.code == 2
    assert outcome.err.count("multilayer: error:") == 1
    assert "Traceback" not in outcome.err
    for words in expected:
        assert words in outcome.err
    assert set(tmp_path.iterdir()) == before


def test_a_table_comes_and_goes_through_pipes(finished_run: Path, tmp_path: Path) -> None:
    """`-` is CSV from the standard input, and to the output, where nothing else is printed."""
    iris = load_iris()
    frame = pl.DataFrame(iris.data, schema=list(iris.feature_names))
    frame = frame.with_columns(target=pl.Series([iris.target_names[i] for i in iris.target]))
    command = [sys.executable, "-m", "multilayer"]

    def piped(*words: str, given: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, words[0], f"run={finished_run}", *words[1:]],
            input=given,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    given = frame.drop("target").write_csv()
    done = piped("predict", "input=-", "output=-", given=given)
    assert (done.returncode, done.stderr) == (0, "150 predictions in the standard output\n")
    predicted = pl.read_csv(io.StringIO(done.stdout))
    assert predicted.columns[:4] == list(iris.feature_names)
    assert predicted.height == 150
    evaluated = piped("evaluate", "data.path=-", given=frame.write_csv())
    assert evaluated.returncode == 0, evaluated.stderr
    assert "150 rows of the standard input" in evaluated.stdout
    wrong = piped("predict", "input=-", "output=-", given="a,b\n1,2\n")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "multilayer: error: the standard input" in wrong.stderr
    assert "stdin.csv" not in wrong.stderr
    for word, stream in (("input=/dev/stdin", "input"), ("output=/dev/stdout", "output")):
        named = {"input": "input=-", "output": "output=-"} | {stream: word}
        other = piped("predict", *named.values(), given=given)
        assert other.returncode == 2
        assert f"{word}: not a file; {stream}=- is the standard {stream}, as CSV" in other.stderr
    other = piped("evaluate", "data.path=/dev/fd/0", given=given)
    assert "data.path=- is the standard input, as CSV" in other.stderr
    shell = ["sh", "-c", 'exec "$@" >&-', "sh", *command, "predict", f"run={finished_run}"]
    closed = subprocess.run(
        [*shell, "input=-", "output=-"],
        input=given,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    message = "the standard output is closed; name a file instead"
    assert (closed.returncode, closed.stderr) == (2, f"multilayer: error: {message}\n")
    assert list(tmp_path.iterdir()) == []
