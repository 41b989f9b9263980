"""A second cohort from bags to tables: what is scored, kept and refused."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from made_external import CLASSES, Copied, Other, rows_of, table, validate
from made_predictions import make_results

from wsi_ncmi.bags.cache import BagCache
from wsi_ncmi.bags.packing import write_cache
from wsi_ncmi.errors import BagError
from wsi_ncmi.predictions.outside import stated_digest
from wsi_ncmi.predictions.read import scores_of
from wsi_ncmi.stages import external
from wsi_ncmi.tools.predict.choice import Asked
from wsi_ncmi.tools.predict.records import read_model
from wsi_ncmi.training.ensemble import Ensemble


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    given = {"aggregators": ("abmil",), "objectives": ("cross_entropy", "ncmi")}
    return make_results(tmp_path_factory.mktemp("results"), **given)


@pytest.fixture(scope="module")
def validated(trained):
    return validate(trained, Other())


@pytest.fixture
def root(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "c", ignore=shutil.ignore_patterns("external"))


def test_every_model_scores_every_sample_as_predict_does(trained, validated):
    found = pq.read_table(validated / "predictions.parquet")
    assert len(found) == 8 * 48
    model = read_model(trained, Asked(arm="abmil/ncmi"))
    ensemble = Ensemble(model.contents, torch.device("cpu"))
    cache = BagCache(trained / "external/north/cache/e")
    rows = found.to_pandas().assign(row=range(len(found)))
    scores = scores_of(found).astype(np.float64)
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    for slide_id in ("e100", "e121"):
        own = rows[(rows.sample_id == slide_id) & rows.run_id.str.startswith("abmil--ncmi--")]
        given = ensemble.score(cache.bags([slide_id])).mean
        np.testing.assert_allclose(p[own.row].mean(0), given, atol=1e-6)


def test_what_is_written(validated):
    summary = json.loads((validated / "summary.json").read_text())
    assert summary["samples"] == {"a": 16, "b": 16, "c": 16}
    assert (summary["patients"], summary["models"], summary["centres"]) == (24, 8, ["c9"])
    gap = table(validated, "gap")
    assert len(gap) == 2 * 7
    assert (gap["low"] < gap["high"]).all()
    assert set(table(validated, "differences")["objective"]) == {"ncmi"}
    coverage = table(validated, "coverage")
    assert set(coverage["class"].fillna("")) == {"", *CLASSES}
    assert (validated / "external.png").stat().st_size > 10_000


def test_other_statistics_score_nothing_anew(root, monkeypatch):
    out = validate(root, Other())
    before = stated_digest(out / "predictions.parquet")

    def refuse(*given):
        raise AssertionError("scored again")

    monkeypatch.setattr(external, "score_outside", refuse)
    validate(root, Other(), confidence=0.9)
    assert json.loads((out / "summary.json").read_text())["evaluation"]["confidence"] == 0.9
    assert stated_digest(out / "predictions.parquet") == before
    rows = rows_of(Other())
    with pytest.raises(AssertionError, match="scored again"):
        validate(root, Other(), [replace(rows[0], label="b"), *rows[1:]])
    (out / "predictions.parquet").write_bytes(b"damaged")
    with pytest.raises(AssertionError, match="scored again"):
        validate(root, Other())


def test_a_bag_of_the_training_is_no_external_one(root):
    with pytest.raises(BagError, match=r"north: 1 of its slides are slides of the cohort itself"):
        validate(root, Copied(), rows_of(Other()))


def test_a_file_of_the_training_is_no_external_one(root, tmp_path):
    for folder, slide_id in (("own", "s01"), ("theirs", "e100")):
        (tmp_path / folder).mkdir()
        text = f"slide_id\tfingerprint\n{slide_id}\tabc\nx\t\nblank_{folder}\tdef\n"
        (tmp_path / folder / "bucket-0.tsv").write_text(text)
    write_cache(Other(), root / "external/north/cache/e")
    cache = BagCache(root / "external/north/cache/e")
    places = [
        external.Place(root / "cache/e", tmp_path / "own"),
        external.Place(root / "external/north/cache/e", tmp_path / "theirs"),
    ]
    with pytest.raises(BagError, match=r"1 of its slides .*s01 and e100 there"):
        external._refuse_shared("north", *places, cache)


def test_slides_without_a_bag_are_listed_and_absent_classes_have_no_samples(root):
    source = Other(classes=2)
    rows = rows_of(source)
    lost = replace(rows[0], slide_id="e999", patient_id="q999")
    out = validate(root, source, [*rows, lost])
    summary = json.loads((out / "summary.json").read_text())
    assert summary["samples"]["c"] == 0
    assert table(out, "missing").to_numpy().tolist() == [["e999", "no bag of this slide_id"]]
    assert summary["missing"] == 1


def test_no_bag_at_all_and_bags_of_another_encoder_are_refused(root):
    rows = [replace(row, slide_id=f"x{row.slide_id}") for row in rows_of(Other())]
    with pytest.raises(BagError, match=r"north: no slide of the task has a bag \(xe100: no bag"):
        validate(root, Other(), rows)

    class Narrow(Other):
        dim = 4

        def read(self, slide_id):
            features, coords, copies = super().read(slide_id)
            return features[:, :4], coords, copies[..., :4]

    with pytest.raises(BagError, match="the bags have 4 features, expected 8 as in the training"):
        validate(root, Narrow())
