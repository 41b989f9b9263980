"""`wsi-ncmi information`: our predictions, anyone's tables, and what is wrong with them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.special import log_softmax

from wsi_ncmi import cli
from wsi_ncmi.errors import UserError
from wsi_ncmi.evaluation.information import information
from wsi_ncmi.predictions.foreign import read_foreign
from wsi_ncmi.predictions.read import export_tsv
from wsi_ncmi.tools import information as stage

CLASSES = ["benign", "grade_1", "grade_2"]
TARGET = np.array([0, 1, 2, 0, 1, 2, 0, 1, 0, 2])
KEYS = ["run_id", "part"]


def scores(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(10, 3)) + 2 * np.eye(3)[TARGET]).astype(np.float32)


def run_rows(run_id: str, part: str, seed: int) -> pd.DataFrame:
    values = scores(seed)
    return pd.DataFrame(
        {
            "run_id": run_id,
            "part": part,
            "epoch": 3,
            "sample_id": [f"s{i}" for i in range(10)],
            "target": TARGET,
            "predicted": values.argmax(1),
            "scores": list(values),
        }
    )


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """Two runs, the first with a validation part."""
    parts = [run_rows("a", "val", 1), run_rows("a", "test", 2), run_rows("b", "test", 3)]
    table = pa.Table.from_pandas(pd.concat(parts), preserve_index=False)
    table = table.replace_schema_metadata({b"classes": json.dumps(CLASSES).encode()})
    pq.write_table(table, tmp_path / "predictions.parquet")
    return tmp_path / "predictions.parquet"


def expected(seed: int) -> dict[str, float]:
    return information(log_softmax(scores(seed).astype(np.float64), axis=1), TARGET).measures


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", dtype={"run_id": str, "part": str, "class": str})


def write(path: Path, table: dict[str, Any]) -> Path:
    pd.DataFrame(table).to_csv(path, sep="\t", index=False)
    return path


def probabilities(**changes: list[Any]) -> dict[str, list[Any]]:
    table = {"target": ["x", "y", "x"], "prob_x": [0.7, 0.2, 0.6], "prob_y": [0.3, 0.8, 0.4]}
    return {**table, **changes}


def test_every_run_and_part(
    parquet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, samples = tmp_path / "out.tsv", tmp_path / "samples.tsv"
    cli.main(["information", str(parquet), "--out", str(out), "--samples", str(samples)])
    table = read(out)
    overall = table[table["level"] == "run"]
    assert overall[KEYS].to_numpy().tolist() == [["a", "val"], ["a", "test"], ["b", "test"]]
    for (_, row), seed in zip(overall.iterrows(), (1, 2, 3), strict=True):
        assert row["n"] == 10
        for name, value in expected(seed).items():
            assert row[name] == pytest.approx(value, rel=1e-5)
    of_classes = table[(table["level"] == "class") & (table["run_id"] == "b")]
    assert of_classes["class"].tolist() == CLASSES
    assert of_classes["n"].tolist() == [4, 3, 3]
    weighted = np.average(of_classes["cmi"], weights=of_classes["n"])
    assert weighted == pytest.approx(expected(3)["cmi"], rel=1e-5)
    terms = read(samples)
    assert len(terms) == 30
    means = terms.groupby(KEYS)[["divergence", "separation", "centroid_separation"]].mean()
    found = means.loc[("b", "test")].tolist()
    names = ["cmi", "gamma", "centroid_gamma"]
    assert found == pytest.approx([expected(3)[n] for n in names], rel=1e-5)
    assert terms["target"].tolist() == [CLASSES[i] for i in TARGET] * 3
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == [*KEYS, "n", *expected(1)]
    assert printed[3].split()[:4] == ["b", "test", "10", f"{expected(3)['cmi']:.6g}"]
    assert len(printed) == 4


def test_one_part(parquet: Path, tmp_path: Path) -> None:
    cli.main(["information", str(parquet), "--part", "test", "--out", str(tmp_path / "out.tsv")])
    assert set(read(tmp_path / "out.tsv")["part"]) == {"test"}
    with pytest.raises(UserError, match="no part 'train', found test, val"):
        stage.run(parquet, "train")


def test_exported_predictions_give_the_same(parquet: Path, tmp_path: Path) -> None:
    export_tsv(parquet, tmp_path / "flat.tsv")
    for path in (parquet, tmp_path / "flat.tsv"):
        stage.run(path, out=tmp_path / f"{path.stem}-out.tsv")
    first, second = (read(tmp_path / f"{name}-out.tsv") for name in ("predictions", "flat"))
    pd.testing.assert_frame_equal(first, second, rtol=2e-6)


def test_a_table_with_nothing_but_targets_and_probabilities(tmp_path: Path) -> None:
    path = write(tmp_path / "other.tsv", probabilities())
    stage.run(path, out=tmp_path / "out.tsv", samples=tmp_path / "samples.tsv")
    row = read(tmp_path / "out.tsv").iloc[0]
    assert (row["run_id"], row["part"]) == ("other", "all")
    p = np.array([[0.7, 0.3], [0.2, 0.8], [0.6, 0.4]])
    measures = information(np.log(p), np.array([0, 1, 0])).measures
    for name, value in measures.items():
        assert row[name] == pytest.approx(value, rel=1e-5)
    assert read(tmp_path / "samples.tsv")["sample_id"].tolist() == ["line 2", "line 3", "line 4"]


def test_rounded_probabilities_are_scaled_and_zeros_pass(tmp_path: Path) -> None:
    path = write(tmp_path / "t.tsv", probabilities(prob_x=[1, 0.2004, 0.6], prob_y=[0, 0.8, 0.4]))
    log_p = read_foreign(path).log_probabilities
    np.testing.assert_allclose(np.exp(log_p).sum(1), 1)
    assert log_p[0, 1] == pytest.approx(-708.396, abs=1e-3)


def test_targets_are_indices_or_names(tmp_path: Path) -> None:
    for targets in (["x", "y", "x"], [0, 1, 0]):
        path = write(tmp_path / "t.tsv", probabilities(target=targets))
        assert read_foreign(path).rows["target"].tolist() == [0, 1, 0]
    grades = {"prob_1": [0.2] * 3, "prob_2": [0.3] * 3, "prob_3": [0.5] * 3}
    path = write(tmp_path / "t.tsv", {"target": [1, 2, 1], **grades})
    with pytest.raises(UserError, match="--targets name or --targets index"):
        read_foreign(path)
    assert read_foreign(path, "name").rows["target"].tolist() == [0, 1, 0]
    assert read_foreign(path, "index").rows["target"].tolist() == [1, 2, 1]
    path = write(tmp_path / "t.tsv", {"target": [0, 2, 1], **grades})
    assert read_foreign(path).rows["target"].tolist() == [0, 2, 1]
    with pytest.raises(UserError, match="unknown class '0', expected one of 1, 2, 3"):
        read_foreign(path, "name")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"target": ["x", "z", "x"]}, "line 3, column target: unknown class 'z', expected one of"),
        ({"target": ["x", "y", ""]}, "line 4, column target: unknown class ''"),
        ({"target": ["0", "1", "2"]}, "line 4, column target: unknown class '2'"),
        ({"prob_x": [0.7, "", 0.6]}, "line 3, column prob_x: found '', expected a finite number"),
        ({"prob_y": [0.3, "much", "little"]}, r"line 3, column prob_y: found 'much'.*\(2 such"),
        ({"prob_x": [0.7, "nan", 0.6]}, "line 3, column prob_x: found 'nan'"),
        ({"prob_x": [0.7, 0.2, -0.1]}, "line 4, column prob_x: found '-0.1', expected a prob"),
        ({"prob_x": [0.9, 0.2, 0.6]}, "line 2: the probabilities sum to 1.2, expected 1"),
        ({"prob_x": [7, 2, 6], "prob_y": [3, 8, 4]}, "line 2, column prob_x: found '7.0'"),
        ({"score_x": [1, 2, 3]}, "both score_ and prob_ columns"),
        ({"target": ["x", "x", "x"]}, "run t, part all: all 3 samples are of class 0"),
    ],
)
def test_bad_cells_are_named(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    path = write(tmp_path / "t.tsv", probabilities(**changes))
    with pytest.raises(UserError, match=text) as caught:
        stage.run(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "empty, expected a header"),
        (b"target\tprob_x\tprob_y\n", "a header and no samples"),
        (b"label\tprob_x\tprob_y\nx\t1\t0\n", "no column target.*label, prob_x, prob_y"),
        (b"target,prob_x,prob_y\nx,1,0\n", "the columns are separated by commas, expected tabs"),
        (b"target\tprob_x\nx\t1\n", "two or more classes, found 1"),
        (b"target\tx\ty\nx\t1\t0\n", "two or more classes, found 0"),
        (b"target\tprob_x\tprob_x\nx\t1\t0\n", "column 'prob_x' is there 2 times"),
        (b"target\tprob_x\tprob_y\nx\t1\t0\nx\t1\n", "line 3 has fewer fields than the header"),
        (
            b"target\tprob_x\tprob_y\nx\t1\t0\nx\t1\t0\t5\n",
            "line 3 has more fields than the header",
        ),
        (b"target\tprob_x\tprob_y\nx\t1\t0\t5\n", "more fields than the header"),
        (b"target\tprob_\xff\xfe\nx\t1\n", "line 1 is not UTF-8 text"),
    ],
)
def test_bad_tables_are_named(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "t.tsv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=text):
        read_foreign(path)


def test_bad_parquet_files_are_named(parquet: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.parquet"
    table = pq.read_table(parquet)
    with pytest.raises(UserError, match="no such predictions file"):
        read_foreign(path)
    path.write_text("no parquet")
    with pytest.raises(UserError, match="not a Parquet file"):
        read_foreign(path)
    pq.write_table(table.drop_columns(["scores"]), path)
    with pytest.raises(UserError, match=r"not a predictions file of wsi-ncmi \(no scores"):
        read_foreign(path)
    pq.write_table(table.replace_schema_metadata({}), path)
    with pytest.raises(UserError, match="no class names"):
        read_foreign(path)
    pq.write_table(table.slice(0, 0), path)
    with pytest.raises(UserError, match="no samples"):
        read_foreign(path)


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("scores", [0.0, float("nan"), 1.0], "row 4, column scores of grade_1: found 'nan'"),
        ("scores", [0.0, 1.0], "row 4: 2 scores for 3 classes"),
        ("target", 3, r"row 4, column target: found 3, expected a class index in 0\.\.2"),
    ],
)
def test_bad_parquet_rows_are_named(
    parquet: Path, tmp_path: Path, column: str, value: Any, text: str
) -> None:
    table = pq.read_table(parquet)
    values = table[column].to_pylist()
    values[4] = value
    index = table.column_names.index(column)
    path = tmp_path / "bad.parquet"
    pq.write_table(table.set_column(index, column, [values]), path)
    with pytest.raises(UserError, match=text):
        read_foreign(path)


def test_errors_end_the_command_with_their_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["information", str(tmp_path / "none.tsv")])
    assert caught.value.code == 1
    assert "none.tsv: no such predictions file" in capsys.readouterr().err
