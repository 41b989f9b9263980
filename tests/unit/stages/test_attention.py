"""Stage `attention` on models with and without attention to draw."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from made_tiled import tiled_slide

from wsi_ncmi.bags.cache import BagCache
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Attention, Task
from wsi_ncmi.files.frame import read_frame
from wsi_ncmi.predictions.attention import read_attention
from wsi_ncmi.stages import attention, train
from wsi_ncmi.tiling import tilefile
from wsi_ncmi.tiling.asap import Annotation, write_asap
from wsi_ncmi.training.attention import SeenSlide
from wsi_ncmi.training.bags import packed
from wsi_ncmi.training.mil import load_run

SMALL = {
    "mean": {"options": {"hidden_dim": 8}},
    "abmil": {"options": {"hidden_dim": 8}},
    "gated": {"part": "abmil", "options": {"hidden_dim": 4}},
}


def trained(
    cache_folder: Path,
    splits: pd.DataFrame,
    classes: list[str],
    folder: Path,
    aggregators: list[str],
) -> tuple[Task, list[SlideRow]]:
    """A task whose models are trained in the folder, and the rows of its slides."""
    task = Task.model_validate(
        {
            "classes": classes,
            "aggregators": {name: SMALL[name] for name in aggregators},
            "objectives": {"cross_entropy": {}},
            "training": {"epochs": 1},
            "seeds": [0],
        }
    )
    splits.to_csv(folder / "splits.tsv", sep="\t", index=False)
    train.run("t", task, "c", "e", 0, cache_folder, folder / "splits.tsv", folder, 1)
    rows = [SlideRow(r.slide_id, r.label, r.patient_id, r.centre) for r in splits.itertuples()]
    return task, rows


def two_folds(splits: pd.DataFrame) -> pd.DataFrame:
    """A second fold, in which validation and test have changed places."""
    other = splits.assign(fold=1, part=splits.part.replace({"val": "test", "test": "val"}))
    return pd.concat([splits, other], ignore_index=True)


@pytest.mark.parametrize("aggregators", [["mean"], ["mean", "abmil"]])
def test_a_task_with_aggregators_without_attention(
    cache_folder: Path,
    splits: pd.DataFrame,
    classes: list[str],
    tmp_path: Path,
    aggregators: list[str],
) -> None:
    """The workflow waits for the folder of heatmaps, also where there is nothing to draw."""
    task, rows = trained(cache_folder, splits, classes, tmp_path, aggregators)
    out = tmp_path / "attention"
    options = Attention(slides=0)
    attention.run(task, rows, cache_folder, tmp_path / "tiles", tmp_path, options, out)
    assert (out / "heatmaps").is_dir()
    drawn = 12 if "abmil" in aggregators else 0
    assert json.loads((out / "summary.json").read_text())["slides"] == drawn
    files = sorted((out / "weights").glob("*.h5"))
    assert len(files) == drawn
    for path in files:
        assert set(read_attention(path).weights) == {"abmil/cross_entropy"}


def test_a_file_per_slide_has_what_each_models_network_gives(
    cache_folder: Path, splits: pd.DataFrame, classes: list[str], tmp_path: Path
) -> None:
    splits = two_folds(splits)
    task, rows = trained(cache_folder, splits, classes, tmp_path, ["abmil", "gated"])
    out, cache = tmp_path / "attention", BagCache(cache_folder)
    (out / "weights").mkdir(parents=True)
    for stale in ("weights/no-longer-tested.h5", "weights/.half.h5.part", "attention.h5"):
        (out / stale).write_text("of an earlier run")
    attention.run(task, rows, cache_folder, tmp_path, tmp_path, Attention(slides=0), out)
    tested = splits[splits.part == "test"]
    names = {path.name for path in (out / "weights").iterdir()}
    assert names == {f"{slide_id}.h5" for slide_id in tested.slide_id}
    assert not (out / "attention.h5").exists()
    for slide in tested.itertuples():
        found = read_attention(out / "weights" / f"{slide.slide_id}.h5")
        assert found.slide_id == slide.slide_id
        np.testing.assert_array_equal(found.coords, cache.coords[cache.rows(slide.slide_id)])
        for arm, weights in found.weights.items():
            run_id = f"{arm.replace('/', '--')}--fold{slide.fold}--seed0"
            network, *_ = load_run(tmp_path / run_id, torch.device("cpu"))
            with torch.inference_mode():
                output = network.bag(packed([cache.bags([slide.slide_id])], torch.device("cpu")))
            np.testing.assert_allclose(weights, output.attention.mean(-1).numpy(), rtol=1e-6)
            assert weights.sum() == pytest.approx(1, abs=1e-6)


def test_tables_are_in_the_order_of_the_runs(
    cache_folder: Path, splits: pd.DataFrame, classes: list[str], tmp_path: Path
) -> None:
    """Slides are scored by all arms at once; tables go run by run."""
    splits = two_folds(splits)
    task, rows = trained(cache_folder, splits, classes, tmp_path, ["gated", "abmil"])
    write_asap([Annotation(np.array([[0.0, 0], [300, 0], [300, 300]]))], tmp_path / "lesion.xml")
    rows = [replace(row, annotation=str(tmp_path / "lesion.xml")) for row in rows]
    tested = splits[splits.part == "test"]
    for slide_id in tested.slide_id:
        tilefile.write(tmp_path / "tiles" / f"{slide_id}.h5", tiled_slide(slide_id))
    out = tmp_path / "attention"
    attention.run(task, rows, cache_folder, tmp_path / "tiles", tmp_path, Attention(slides=0), out)
    table = read_frame(out / "lesion_auroc.tsv")
    runs = read_frame(tmp_path / "seed-0.tsv", {"fold": int})
    expected = [
        (run.aggregator, slide_id)
        for run in runs.itertuples()
        for slide_id in sorted(tested.slide_id[tested.fold == run.fold])
    ]
    assert [*zip(table.aggregator, table.slide_id, strict=True)] == expected
    assert len(expected) == 2 * len(tested) == 36


def test_a_patients_slides_have_a_file_each(
    cache_folder: Path, splits: pd.DataFrame, classes: list[str], tmp_path: Path
) -> None:
    """A patient's slides are one bag, whose attention is divided among them."""
    splits = splits.assign(sample_id=splits.patient_id)
    task, rows = trained(cache_folder, splits, classes, tmp_path, ["abmil"])
    out, cache = tmp_path / "attention", BagCache(cache_folder)
    attention.run(task, rows, cache_folder, tmp_path, tmp_path, Attention(slides=0), out)
    first = splits[splits.part == "test"].iloc[0]
    slides = sorted(
        splits[(splits.part == "test") & (splits.sample_id == first.sample_id)].slide_id
    )
    assert len(slides) == 2
    network, *_ = load_run(
        tmp_path / f"abmil--cross_entropy--fold{first.fold}--seed0", torch.device("cpu")
    )
    with torch.inference_mode():
        output = network.bag(packed([cache.bags(slides)], torch.device("cpu")))
    whole = output.attention.mean(-1).numpy()
    start = 0
    for slide_id in slides:
        own = read_attention(out / "weights" / f"{slide_id}.h5").weights["abmil/cross_entropy"]
        piece = whole[start : start + len(own)]
        np.testing.assert_allclose(own, piece / piece.sum(), rtol=1e-6)
        start += len(own)
    assert start == len(whole)


def test_what_was_scored_is_written_before_the_next_slide_is(
    cache_folder: Path,
    splits: pd.DataFrame,
    classes: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed in the middle, the stage has left whole files, and runs again from the start."""
    task, rows = trained(cache_folder, splits, classes, tmp_path, ["abmil"])
    out = tmp_path / "attention"
    given = task, rows, cache_folder, tmp_path, tmp_path, Attention(slides=0), out
    seen = attention.seen_slides

    def killed(*arguments: Any) -> Iterator[SeenSlide]:
        for number, slide in enumerate(seen(*arguments)):
            assert len(list((out / "weights").iterdir())) == number
            if number == 3:
                raise KeyboardInterrupt
            yield slide

    monkeypatch.setattr(attention, "seen_slides", killed)
    with pytest.raises(KeyboardInterrupt):
        attention.run(*given)
    assert not (out / "summary.json").exists()
    for path in (out / "weights").iterdir():
        assert read_attention(path).slide_id == path.stem
    monkeypatch.setattr(attention, "seen_slides", seen)
    attention.run(*given)
    assert len(list((out / "weights").iterdir())) == splits[splits.part == "test"].shape[0]
    assert json.loads((out / "summary.json").read_text())["slides"] > 3


def test_a_bad_annotation_is_a_note_and_the_stage_goes_on(
    cache_folder: Path, splits: pd.DataFrame, classes: list[str], tmp_path: Path
) -> None:
    task, rows = trained(cache_folder, splits, classes, tmp_path, ["abmil"])
    tested = sorted(set(splits.slide_id[splits.part == "test"]))
    bad, gone, fine, far = tested[:4]
    square = np.array([[0.0, 0], [300, 0], [300, 300], [0, 300]])
    (tmp_path / "bad.xml").write_text("no XML")
    write_asap([Annotation(square), Annotation(square[:2])], tmp_path / "fine.xml")
    write_asap([Annotation(square + 9000)], tmp_path / "far.xml")
    paths = {bad: "bad.xml", gone: "gone.xml", fine: "fine.xml", far: "far.xml"}
    rows = [
        replace(row, annotation=str(tmp_path / paths[row.slide_id]))
        if row.slide_id in paths
        else row
        for row in rows
    ]
    for slide in (fine, far):
        tilefile.write(tmp_path / "tiles" / f"{slide}.h5", tiled_slide(slide))
    out = tmp_path / "attention"
    attention.run(task, rows, cache_folder, tmp_path / "tiles", tmp_path, Attention(slides=0), out)
    notes = read_frame(out / "annotation_notes.tsv")
    assert dict(zip(notes.slide_id, notes.note, strict=True)) == {
        bad: "bad.xml: cannot be read as XML: syntax error: line 1, column 0: the annotation is "
        "not used",
        gone: "gone.xml: no such file: the annotation is not used",
        fine: "Polygon 'Annotation 1' has 2 points and is left out",
        far: "1 of 1 lesions do not lie on the slide of 4096 x 4096 px: is it another slide's "
        "annotation?",
    }
    aurocs = read_frame(out / "lesion_auroc.tsv", {"lesion_tiles": int})
    assert sorted(aurocs.slide_id) == sorted([fine, far])
    assert aurocs.lesion_tiles[aurocs.slide_id == far].item() == 0
    assert json.loads((out / "summary.json").read_text())["slides whose annotation has a note"] == 4
    # Squares of 150 µm are 212 µm across, and 287 µm with what FROC adds.
    (sizes,) = read_frame(out / "lesion_sizes.tsv").to_dict("records")
    assert (sizes["largest lesion"], sizes["slides"]) == ("0.2 to 2 mm", "2")
    (curve,) = read_frame(out / "froc.tsv").to_dict("records")
    assert (curve["slides"], curve["lesions"]) == ("2", "2")
