"""Models of patients: the slides of one are one bag, as in the training."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from made_predictions import make_results, two_folds

from wsi_ncmi import cli
from wsi_ncmi.bags.cache import BagCache
from wsi_ncmi.bags.store import read_bag
from wsi_ncmi.errors import BagError
from wsi_ncmi.predictions.attention import read_attention
from wsi_ncmi.tools.predict.bags import NewBag, Place, patients_of_sheet, samples_of
from wsi_ncmi.tools.predict.model import ONE_SLIDE
from wsi_ncmi.training.bags import packed
from wsi_ncmi.training.mil import load_run


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results whose records say that their samples are patients."""
    made = make_results(tmp_path_factory.mktemp("patients"), aggregators=("abmil",))
    for path in (made / "runs/t").glob("*/checkpoint.pt"):
        content = torch.load(path, weights_only=True)
        content["run"]["settings"]["sample"] = "patient"
        torch.save(content, path)
    return made


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    slides = two_folds().drop_duplicates("slide_id")[["slide_id", "patient_id", "label"]]
    path = tmp_path / "sheet.tsv"
    slides.to_csv(path, sep="\t", index=False)
    return path


def predict(results: Path, out: Path, *more: str) -> dict:
    cli.main(["predict", "--from", str(results), "--out", str(out), *more])
    found: dict = json.loads((out / "predictions.json").read_text())
    return found


def test_a_patients_slides_are_one_bag(results: Path, sheet: Path, tmp_path: Path) -> None:
    bags = results / "features/e"
    found = predict(results, tmp_path / "out", "--bags", str(bags), "--sheet", str(sheet))
    assert ONE_SLIDE not in found["notes"]
    assert [one["slide_id"] for one in found["slides"]] == [f"p{n:02d}" for n in range(18)]
    one = found["slides"][3]
    assert one["slides"] == ["s06", "s07"]
    cache = BagCache(results / "cache/e")
    each, attentions = [], []
    for run in sorted((results / "runs/t").glob("*/checkpoint.pt")):
        network, objective, _ = load_run(run.parent, torch.device("cpu"))
        with torch.inference_mode():
            output = network.bag(packed([cache.bags(["s06", "s07"])], torch.device("cpu")))
            each.append(objective.scores(output.embedding).double().softmax(1)[0].numpy())
            attentions.append(output.attention.mean(-1).double().numpy())
    np.testing.assert_allclose(list(one["probabilities"].values()), np.mean(each, 0), atol=1e-6)
    assert one["tiles"] == len(attentions[0])
    assert one["attention"] == ["attention/s06.h5", "attention/s07.h5"]
    second = read_attention(tmp_path / "out/attention/s07.h5").weights["abmil/cross_entropy"]
    own = np.mean(attentions, 0)[-len(second) :]
    np.testing.assert_allclose(second, own / own.sum(), rtol=1e-4)
    table = pd.read_csv(tmp_path / "out/predictions.tsv", sep="\t")
    assert table.slides[3] == "s06 | s07"


def test_without_a_sheet_a_slide_is_a_patient(results: Path, tmp_path: Path) -> None:
    found = predict(results, tmp_path, "--bags", str(results / "features/e/s06.h5"))
    assert ONE_SLIDE in found["notes"]
    assert [one["slides"] for one in found["slides"]] == [["s06"]]


def test_a_slide_that_cannot_be_scored_is_left_out_of_its_patient(
    results: Path, sheet: Path, tmp_path: Path
) -> None:
    bags = Path(shutil.copytree(results / "features/e", tmp_path / "bags"))
    (bags / "s06.h5").write_bytes((bags / "s06.h5").read_bytes()[:-50])
    (bags / "s08.h5").unlink()
    (bags / "s10.h5").unlink()
    (bags / "s11.h5").unlink()
    with pytest.raises(SystemExit) as ended:
        predict(results, tmp_path / "out", "--bags", str(bags), "--sheet", str(sheet))
    assert ended.value.code == 1
    content = json.loads((tmp_path / "out/predictions.json").read_text())
    found = {one["slide_id"]: one for one in content["slides"]}
    assert (found["p03"]["status"], found["p03"]["slides"]) == ("ok", ["s07"])
    assert found["p03"]["reason"].startswith("slide s06: ")
    assert found["p03"]["tiles"] == len(read_bag(bags / "s07.h5").features)
    assert found["p04"]["reason"] == "slide s08: no bag of s08 was given"
    assert found["p05"]["status"] == "refused"
    assert "s10" in found["p05"]["reason"]
    assert "s11" in found["p05"]["reason"]


def test_the_sheet_is_for_models_of_patients(
    sheet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_results(tmp_path / "made", aggregators=("mean",))
    with pytest.raises(SystemExit):
        predict(made, tmp_path / "o", "--bags", str(made / "features/e"), "--sheet", str(sheet))
    assert "these models score slides" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        predict(made, tmp_path / "o", "--slides", "a.svs", "--sheet", str(sheet))
    assert "--sheet is for --bags" in capsys.readouterr().err


def place(slide_id: str) -> Place:
    return Place(slide_id, lambda: NewBag(np.zeros((1, 2)), None))


def test_slides_of_a_patient_come_in_the_order_of_the_training() -> None:
    found = samples_of([place("b"), place("c"), place("a")], {"b": "p", "a": "p"})
    assert [(s.sample_id, [p.slide_id for p in s.places]) for s in found] == [
        ("p", ["a", "b"]),
        ("c", ["c"]),
    ]


def test_names_that_could_be_mistaken() -> None:
    with pytest.raises(BagError, match="a slide without a patient has the name of one: p"):
        samples_of([place("a"), place("p")], {"a": "p"})
    with pytest.raises(BagError, match="bags that the sheet does not have: b"):
        samples_of([place("a"), place("b")], {"a": "p"}, whole=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slide_id\nx\n", "no column patient_id"),
        ("slide_id\tpatient_id\na\tp\na\tq\n", r"line 3: expected a slide_id, once"),
        ("slide_id\tpatient_id\na\t\n", r"line 2: expected a slide_id, once, and a patient_id"),
    ],
)
def test_a_sheet_that_does_not_say_whose(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "s.tsv").write_text(text)
    with pytest.raises(BagError, match=said):
        patients_of_sheet(tmp_path / "s.tsv")
    with pytest.raises(BagError, match="no such sheet"):
        patients_of_sheet(tmp_path / "none.tsv")
