"""Stage `attention` on models with and without attention to draw."""

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from made_tiled import tiled_slide

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Attention, Task
from wsi_ncmi.files.frame import read_frame
from wsi_ncmi.stages import attention, train
from wsi_ncmi.tiling import tilefile
from wsi_ncmi.tiling.asap import Annotation, write_asap

SMALL = {"mean": {"options": {"hidden_dim": 8}}, "abmil": {"options": {"hidden_dim": 8}}}


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
    with h5py.File(out / "attention.h5") as file:
        assert set(file) == set(aggregators) - {"mean"}


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
