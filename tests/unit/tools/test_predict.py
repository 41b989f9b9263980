"""`wsi-ncmi predict` on small trainings: the ensemble, its sets, and what is refused."""

import json
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from made_predictions import CLASSES, make_results, new_bag, two_folds

from wsi_ncmi import cli
from wsi_ncmi.bags.checksum import content_digest
from wsi_ncmi.bags.store import read_bag, write_bag
from wsi_ncmi.errors import BagError, UserError
from wsi_ncmi.files.frame import read_frame
from wsi_ncmi.predictions.attention import read_attention
from wsi_ncmi.tools.predict.bags import SEEN, Place, find, refusal
from wsi_ncmi.tools.predict.choice import Asked
from wsi_ncmi.tools.predict.command import Scorer
from wsi_ncmi.tools.predict.records import read_model


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_results(tmp_path_factory.mktemp("results"))


def predict(results: Path, bags: Path, out: Path, *more: str) -> dict:
    cli.main(["predict", "--from", str(results), "--bags", str(bags), "--out", str(out), *more])
    found: dict = json.loads((out / "predictions.json").read_text())
    return found


def test_a_members_probabilities_are_those_of_its_own_records(
    results: Path, tmp_path: Path
) -> None:
    """A slide that a member tested: what `predictions.parquet` says of it, for every member."""
    for arm in ("mean/cross_entropy", "abmil/cross_entropy"):
        model = read_model(results, Asked(arm=arm))
        scorer = Scorer(model, model.conformal, 0.9, tmp_path)
        places = {p.slide_id: p for p in find([results / "features" / "e"])}
        for at, content in enumerate(model.contents):
            run = content["run"]
            name = f"{arm.replace('/', '--')}--fold{run['fold']}--seed{run['seed']}"
            table = pq.read_table(results / "runs" / "t" / name / "predictions.parquet")
            rows = table.to_pandas().query("part == 'test'")
            assert len(rows) == 12
            for row in rows.itertuples():
                bag = places[row.sample_id].read()
                found = scorer.ensemble.score([bag.features]).probabilities[at]
                exp = np.exp(np.float64(row.scores) - np.max(row.scores))
                np.testing.assert_allclose(found, exp / exp.sum(), atol=2e-6)


def test_the_ensemble_and_its_sets(results: Path, tmp_path: Path) -> None:
    found = predict(results, results / "features" / "e", tmp_path, "--coverage", "0.7")
    model, slides = found["model"], found["slides"]
    assert (found["format"], found["version"]) == ("wsi-ncmi predictions", 1)
    assert model["classes"] == CLASSES
    assert [(m["fold"], m["seed"]) for m in model["members"]] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    arm = Asked(arm=f"{model['aggregator']}/{model['objective']}")
    read = read_model(results, arm)
    scorer = Scorer(read, read.conformal, 0.7, tmp_path)
    assert len(slides) == 36
    for slide, place in zip(slides, find([results / "features" / "e"]), strict=True):
        each = scorer.ensemble.score([place.read().features]).probabilities
        assert each.shape == (4, 3)
        np.testing.assert_allclose(list(slide["probabilities"].values()), each.mean(0))
        np.testing.assert_allclose(list(slide["spread"].values()), each.std(0, ddof=1))
        assert slide["prediction_set"] == [
            c for c, p in slide["p_values"].items() if p > 0.3 + 1e-9
        ]
        assert slide["predicted"] == CLASSES[int(each.mean(0).argmax())]
    truth = two_folds().drop_duplicates("slide_id").set_index("slide_id").label
    assert np.mean([s["predicted"] == truth[s["slide_id"]] for s in slides]) > 0.8
    assert np.mean([truth[s["slide_id"]] in s["prediction_set"] for s in slides]) >= 0.7
    # Each class has four validation samples in each of two folds, whatever the number of seeds.
    of_class = found["conformal"]["classes"]["b"]
    assert of_class["validation_samples"] == 8
    assert of_class["guaranteed_coverage"] == pytest.approx(1 - 2 * (9 * 0.3 + 1) / 10)
    table = read_frame(tmp_path / "predictions.tsv", {"prob_b": float})
    np.testing.assert_allclose(table.prob_b, [s["probabilities"]["b"] for s in slides], rtol=1e-5)
    assert list(table.prediction_set) == [" | ".join(s["prediction_set"]) for s in slides]


def test_the_best_arm_by_validation_one_arm_and_one_run(results: Path) -> None:
    arms = {a: read_model(results, Asked(arm=f"{a}/cross_entropy")) for a in ("mean", "abmil")}
    best = read_model(results, Asked())
    rating = {a: (m.validation["macro_f1"], -m.validation["log_loss"]) for a, m in arms.items()}
    assert best.aggregator == max(rating, key=lambda a: rating[a])
    one = read_model(results, Asked(run="mean--cross_entropy--fold1--seed1"))
    (content,) = one.contents
    assert (content["run"]["fold"], content["run"]["seed"]) == (1, 1)
    assert one.conformal.guaranteed(0.9).tolist() == pytest.approx([0.9] * 3)


def test_models_that_do_not_attend_write_no_attention(results: Path, tmp_path: Path) -> None:
    bag = results / "features" / "e" / "s00.h5"
    (one,) = predict(results, bag, tmp_path / "m", "--arm", "mean/cross_entropy")["slides"]
    assert one["attention"] == []
    assert not (tmp_path / "m/attention").exists()
    (one,) = predict(results, bag, tmp_path / "a", "--arm", "abmil/cross_entropy")["slides"]
    assert one["attention"] == ["attention/s00.h5"]
    model = read_model(results, Asked(arm="abmil/cross_entropy"))
    scorer = Scorer(model, model.conformal, 0.9, tmp_path)
    found = read_attention(tmp_path / "a/attention/s00.h5")
    expected = scorer.ensemble.score([read_bag(bag).features]).attention
    np.testing.assert_allclose(found.weights["abmil/cross_entropy"], expected, rtol=1e-6)


def test_a_bag_whose_name_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    """Files are named after bags, and names in a packed file are anybody's."""
    with h5py.File(tmp_path / "packed.h5", "w") as file:
        file["features"] = np.zeros((2, 8), np.float16)
        file["offsets"] = np.array([0, 2])
        file["slide_id"] = ["../elsewhere"]
    with pytest.raises(
        BagError, match=r"a bag is named '\.\./elsewhere': expected a name without /"
    ):
        find([tmp_path / "packed.h5"])


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (Asked(task="u"), "no task u with finished trainings; there are t"),
        (
            Asked(arm="clam/ncmi"),
            "no arm clam/ncmi with a trained model; there are mean/cross_entropy, "
            "abmil/cross_entropy",
        ),
        (Asked(run="x"), "no trained run x; there are mean--cross_entropy--fold0--seed0, "),
    ],
)
def test_what_is_not_there_is_named(results: Path, asked: Asked, text: str) -> None:
    with pytest.raises(UserError, match=text):
        read_model(results, asked)


def test_folders_without_results(results: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder, expected results/<cohort>"):
        read_model(tmp_path / "none", Asked())
    with pytest.raises(UserError, match=r"no finished trainings .*: train first"):
        read_model(tmp_path, Asked())
    (tmp_path / "mine").symlink_to(results)
    with pytest.raises(UserError, match="name the folder of a cohort: mine"):
        read_model(tmp_path, Asked())


def test_records_that_are_not_whole(results: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(results, tmp_path / "copy"))
    shutil.copytree(copy / "runs" / "t", copy / "runs" / "u")
    with pytest.raises(UserError, match="has several tasks: name one with --task: t, u"):
        read_model(copy, Asked())
    folder = copy / "runs" / "t" / "mean--cross_entropy--fold0--seed0"
    (folder / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match=r"checkpoint.pt: holds no weights that can be read"):
        read_model(copy, Asked(task="t", arm="mean/cross_entropy"))
    (folder / "checkpoint.pt").unlink()
    with pytest.raises(UserError, match="its records are not whole: rerun the task's training"):
        read_model(copy, Asked(task="t"))


@pytest.mark.parametrize(
    ("stated", "text"),
    [
        ({"encoder": "f"}, "encoder is f, expected e"),
        ({"weights_sha256": "cd"}, f"weights_sha256 is cd, expected {'ab' * 32}"),
        (
            {"tile_mpp": 0.25, "stain": "macenko"},
            "stain is macenko, expected none; tile_mpp is 0.25",
        ),
        ({"mean": [0.1, 0.5, 0.5]}, r"mean is \[0.1, 0.5, 0.5\], expected \[0.5, 0.5, 0.5\]"),
    ],
)
def test_bags_that_were_made_otherwise(
    results: Path, tmp_path: Path, stated: dict, text: str
) -> None:
    write_bag(tmp_path / "new.h5", new_bag("s00", **stated))
    (place,) = find([tmp_path / "new.h5"])
    reason = refusal(place.read(), read_model(results, Asked()))
    assert reason.startswith("it was made otherwise than the bags of the training: ")
    assert re.search(text, reason), reason


def test_bad_bags_are_rows_and_the_others_go_on(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "bags", tmp_path / "out"
    write_bag(folder / "fine.h5", new_bag("s00"))
    write_bag(folder / "far.h5", new_bag("s01", shift=50.0, invalid=9))
    write_bag(folder / "other.h5", new_bag("s02", encoder="f"))
    (folder / "torn.h5").write_bytes((folder / "fine.h5").read_bytes()[:700])
    write_bag(folder / "nan.h5", new_bag("s03"))
    with h5py.File(folder / "nan.h5", "r+") as file:
        file["features"][0, 0] = np.nan
    with pytest.raises(SystemExit):
        predict(results, folder, out, "--json")
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / "predictions.json").read_text())
    found = {s["slide_id"]: s for s in printed["slides"]}
    status = {name: s["status"] for name, s in found.items()}
    assert status == {
        "far": "ok",
        "fine": "ok",
        "nan": "refused",
        "other": "refused",
        "torn": "refused",
    }
    assert "do not match their checksum" in found["nan"]["reason"]
    assert found["fine"]["unusual"] == []
    invalid, outside = found["far"]["unusual"]
    assert invalid == "9 of 12 tiles could not be decoded"
    assert outside.startswith("its features lie outside of what was trained on: ")
    assert found["other"]["probabilities"] == {}
    assert found["other"]["predicted"] is None


@pytest.mark.parametrize(
    ("features", "text"),
    [
        (np.ones((3, 5), np.float32), "it has 5 features, expected 8 as in the training"),
        (np.full((3, 8), np.nan, np.float32), "features are not finite"),
        (np.ones((0, 8), np.float32), "no instance"),
        (np.ones((3, 8), np.float32), "it does not state its encoder, which the models need: e"),
    ],
)
def test_bags_of_other_tools(
    results: Path, tmp_path: Path, features: np.ndarray, text: str
) -> None:
    np.save(tmp_path / "one.npy", features)
    (place,) = find([tmp_path / "one.npy"])
    assert isinstance(place, Place)
    assert refusal(place.read(), read_model(results, Asked())).startswith(text)


def test_imported_bags_are_compared_by_what_is_known(results: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(results, tmp_path / "copy"))
    facts = copy / "cache" / "e" / "encoder.json"
    facts.write_text(json.dumps({**json.loads(facts.read_text()), "weights_sha256": ""}))
    np.save(tmp_path / "s05.npy", new_bag("s05").features)
    found = predict(copy, tmp_path / "s05.npy", tmp_path / "out")
    assert "whose encoder is not known" in found["notes"][0]
    (slide,) = found["slides"]
    assert slide["predicted"] == "c"


def test_many_slides_in_one_file_and_those_of_the_training(results: Path, tmp_path: Path) -> None:
    """Imported bags, whose digests in the index are of their content: one of three is known."""
    copy = Path(shutil.copytree(results, tmp_path / "copy"))
    facts, index = copy / "cache/e/encoder.json", copy / "cache/e/index.tsv"
    facts.write_text(json.dumps({**json.loads(facts.read_text()), "weights_sha256": ""}))
    bags = [new_bag("s04").features, new_bag("s05").features + np.float16(0.5), np.ones((0, 8))]
    index.write_text(index.read_text().replace("\td4\t", f"\t{content_digest(bags[0])}\t"))
    with h5py.File(tmp_path / "packed.h5", "w") as file:
        file["features"] = np.concatenate(bags).astype(np.float16)
        file["offsets"] = np.cumsum([0, *map(len, bags)])
        file["slide_id"] = [b"known", b"new", b"empty"]
    with pytest.raises(SystemExit):
        predict(copy, tmp_path / "packed.h5", tmp_path / "out")
    slides = json.loads((tmp_path / "out/predictions.json").read_text())["slides"]
    known, new, empty = slides
    assert known["unusual"] == [SEEN]
    assert new["unusual"] == []
    assert (empty["slide_id"], empty["reason"]) == ("empty", "no instance")


def test_a_coverage_that_is_none(results: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        predict(results, results / "features" / "e", tmp_path, "--coverage", "1.5")
    assert not (tmp_path / "predictions.json").exists()
