import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from wsi_ncmi.errors import UserError
from wsi_ncmi.evaluation.policies import choices_of_curves
from wsi_ncmi.predictions.read import read_parquet, scores_of
from wsi_ncmi.predictions.records import (
    MANIFEST_COLUMNS,
    RECORDS,
    Run,
    ScoredPart,
    finish,
    product_of,
    read_manifest,
    write_checkpoint,
    write_curves,
    write_manifest,
    write_predictions,
)
from wsi_ncmi.predictions.validation import fits, read_validation, write_validation
from wsi_ncmi.training.seeds import derive

MakeRun = Callable[..., Run]
EPOCHS = list(torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(0)))


def scored(part: str, count: int) -> ScoredPart:
    names = [f"{part}{i}" for i in range(count)]
    identity = pd.DataFrame({"sample_id": names, "patient_id": names, "centre": "c0"})
    scores = torch.randn(count, 3, generator=torch.Generator().manual_seed(count))
    return ScoredPart(part, identity, torch.arange(count) % 3, scores)


def write(folder: Path, run: Run) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    parts = [scored("val", 4), scored("test", 5)]
    write_predictions(folder / "predictions.parquet", run, parts, 7, ["x", "y", "z"])
    write_curves(folder / "curves.tsv", [{"epoch": 0, "part": "train", "loss": 0.5}])
    write_validation(folder, parts[0].identity["sample_id"], parts[0].targets, EPOCHS)
    write_checkpoint(folder / "checkpoint.pt", {"state": torch.ones(2), "classes": ["x"]})
    finish(folder, run, best_epoch=7, epochs=9, score_scale=0.5, seconds=1.234)


def test_a_finished_run_is_done(folder: Path, make_run: MakeRun) -> None:
    assert not product_of(make_run(), folder).is_current
    write(folder, make_run())
    assert product_of(make_run(), folder).is_current
    assert sorted(p.name for p in folder.iterdir()) == sorted([*RECORDS, "run.json"])


@pytest.mark.parametrize("name", [*RECORDS, "run.json"])
def test_a_run_without_one_of_its_records_is_not_done(
    folder: Path, make_run: MakeRun, name: str
) -> None:
    write(folder, make_run())
    (folder / name).unlink()
    assert not product_of(make_run(), folder).is_current


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"training": {"epochs": 3}}},
        {"bags_digest": "other"},
        {"fold": 1},
        {"seed": 1},
        {"aggregator": "mean"},
        {"objective": "cross_entropy"},
        {"selection": "early_stopping"},
        {"encoder": "other"},
        {"protocol": "file"},
        {"task": "u"},
        {"cohort": "d"},
    ],
)
def test_a_run_of_other_settings_is_not_done(
    folder: Path, make_run: MakeRun, change: dict[str, Any]
) -> None:
    write(folder, make_run())
    assert not product_of(make_run(**change), folder).is_current


@pytest.mark.parametrize("content", ["", "{", "{}", "[]"])
def test_a_damaged_record_is_not_done(folder: Path, make_run: MakeRun, content: str) -> None:
    write(folder, make_run())
    (folder / "run.json").write_text(content)
    assert not product_of(make_run(), folder).is_current


def test_a_run_of_the_first_partition_is_who_it_ever_was(make_run: MakeRun) -> None:
    assert make_run().digest == "1b052f2c7e6c79a9c4231bce3b6042db"


def test_manifests_and_records_without_repeats_are_of_the_first(
    tmp_path: Path, make_run: MakeRun
) -> None:
    folders = [tmp_path / str(repeat) for repeat in range(2)]
    for repeat, folder in enumerate(folders):
        write(folder, make_run(fold=repeat, repeat=repeat))
    record = json.loads((folders[0] / "run.json").read_text())
    record.pop("repeat")
    (folders[0] / "run.json").write_text(json.dumps(record))
    write_manifest(tmp_path / "runs.tsv", folders)
    assert list(read_manifest(tmp_path / "runs.tsv").repeat) == [0, 1]
    frame = pd.read_csv(tmp_path / "runs.tsv", sep="\t").drop(columns="repeat")
    frame.to_csv(tmp_path / "runs.tsv", sep="\t", index=False)
    assert list(read_manifest(tmp_path / "runs.tsv").repeat) == [0, 0]


def test_the_record_tells_all(folder: Path, make_run: MakeRun) -> None:
    run = make_run()
    write(folder, run)
    record = json.loads((folder / "run.json").read_text())
    assert record["run_id"] == run.run_id == "abmil--ncmi--fold0--seed0"
    assert (record["best_epoch"], record["epochs"], record["seconds"]) == (7, 9, 1.23)
    assert record["settings"] == {"training": {"epochs": 2}}
    assert record["digest"] == run.digest


def test_predictions(folder: Path, make_run: MakeRun) -> None:
    write(folder, make_run())
    table = pq.read_table(folder / "predictions.parquet")
    assert json.loads(table.schema.metadata[b"classes"]) == ["x", "y", "z"]
    assert set(table.column_names) == {
        "run_id",
        "part",
        "epoch",
        "sample_id",
        "patient_id",
        "centre",
        "target",
        "predicted",
        "scores",
        "calibrated",
    }
    assert pa.types.is_list(table.schema.field("scores").type)
    assert table.schema.field("scores").type.value_type == pa.float32()
    assert table.schema.field("target").type == pa.int64()
    assert table.schema.field("predicted").type == pa.int64()
    assert pa.types.is_boolean(table.schema.field("calibrated").type)
    frame = table.to_pandas()
    assert list(frame.part) == ["val"] * 4 + ["test"] * 5
    assert set(frame.epoch) == {7}
    expected = scored("test", 5)
    found = frame[frame.part == "test"]
    scores = np.stack(list(found.scores))
    assert np.array_equal(scores, expected.scores.numpy())
    assert np.array_equal(found.predicted, scores.argmax(1))
    assert np.array_equal(found.target, expected.targets)
    assert list(found.sample_id) == [f"test{i}" for i in range(5)]


def test_every_epoch_on_validation(folder: Path, make_run: MakeRun) -> None:
    write(folder, make_run())
    found = read_validation(folder)
    assert found.sample_ids.tolist() == ["val0", "val1", "val2", "val3"]
    assert found.targets.tolist() == [0, 1, 2, 0]
    assert found.scores.dtype == np.float32
    assert np.array_equal(found.scores, torch.stack(EPOCHS).numpy())


def test_a_damaged_validation_file_is_named(folder: Path, make_run: MakeRun) -> None:
    write(folder, make_run())
    path = folder / "validation.npz"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"validation\.npz: damaged \(.*rerun the task's training"):
        read_validation(folder)
    path.unlink()
    with pytest.raises(UserError, match=r"validation\.npz: no such file, expected what every"):
        read_validation(folder)


def test_checkpoints_hold_no_code(folder: Path, make_run: MakeRun) -> None:
    write(folder, make_run())
    content = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert content["state"].tolist() == [1, 1]


def test_manifest(tmp_path: Path, make_run: MakeRun) -> None:
    runs = [make_run(fold=1), make_run(fold=0), make_run(objective="cross_entropy")]
    folders = [tmp_path / run.run_id for run in runs]
    for folder, run in zip(folders, runs, strict=True):
        write(folder, run)
    write_manifest(tmp_path / "runs.tsv", folders)
    frame = pd.read_csv(tmp_path / "runs.tsv", sep="\t")
    assert tuple(frame.columns) == MANIFEST_COLUMNS
    assert list(frame.run_id) == [run.run_id for run in runs]  # the order of the configuration
    assert list(frame.fold) == [1, 0, 0]


def test_seeds_derive_from_seed_fold_and_purpose() -> None:
    seeds = {derive(s, f, p) for s in range(4) for f in range(5) for p in ("order", "start")}
    assert len(seeds) == 40
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive(1, 2, "order") == derive(1, 2, "order")


def test_scores_are_kept_and_read_without_an_object_a_row(
    tmp_path: Path, make_run: MakeRun
) -> None:
    parts = [scored("val", 4), scored("test", 5)]
    scores = torch.cat([part.scores for part in parts]).numpy()
    path = tmp_path / "predictions.parquet"
    write_predictions(path, make_run(), parts, 4, ["x", "y", "z"])
    table = read_parquet(path)
    assert table.schema.field("scores").type == pa.list_(pa.float32())
    np.testing.assert_array_equal(scores_of(table), scores)
    np.testing.assert_array_equal(np.stack(list(table["scores"].to_pandas())), scores)
    np.testing.assert_array_equal(scores_of(table.slice(2, 4)), scores[2:6])  # rows of its own
    assert table["predicted"].to_pylist() == scores.argmax(1).tolist()
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert "BYTE_STREAM_SPLIT" in columns["scores.list.element"].encodings


def test_of_very_many_scores_their_curves_are_kept(tmp_path):
    ids, targets = pd.Series(["a", "b", "c"]), torch.tensor([0, 1, 0])
    rows = [{"macro_f1": 0.5, "loss": 0.9}, {"macro_f1": 0.75, "loss": 0.4}]
    write_validation(tmp_path, ids, targets, [], rows)
    found = read_validation(tmp_path)
    assert found.scores is None
    assert found.curves.tolist() == [[0.5, 0.75], [0.9, 0.4]]
    chosen = choices_of_curves(*found.curves)
    assert [(one.policy, one.epoch) for one in chosen] == [
        ("last", 1), ("best_loss", 1), ("early_stopping", 1),
    ]  # fmt: skip
    assert fits(torch.zeros(1000, 100), 2684)
    assert not fits(torch.zeros(1000, 100), 2685)  # 1 GiB
