"""`wsi-ncmi export`: a model as one file, which predicts as its results do; what is not opened."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from made_predictions import make_results

from wsi_ncmi import cli
from wsi_ncmi.errors import UserError
from wsi_ncmi.tools.predict import bundle
from wsi_ncmi.tools.predict.bundle import read_bundle
from wsi_ncmi.tools.predict.choice import Asked
from wsi_ncmi.tools.predict.command import Scorer, model_of


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_results(tmp_path_factory.mktemp("results"), aggregators=("abmil",))


@pytest.fixture(scope="module")
def exported(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "model.zip"
    cli.main(["export", "--from", str(results), "--out", str(out)])
    return out


def test_it_predicts_as_its_results_do(results: Path, exported: Path, tmp_path: Path) -> None:
    found = []
    for number, source in enumerate((results, exported)):
        out = tmp_path / str(number)
        bags = str(results / "features" / "e")
        cli.main(["predict", "--from", str(source), "--bags", bags, "--out", str(out)])
        found.append(json.loads((out / "predictions.json").read_text()))
    assert len(found[0]["slides"]) == 36
    assert found[0] == found[1]


def test_the_same_model_gives_the_same_bytes(results: Path, exported: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.zip"
    cli.main(["export", "--from", str(exported), "--out", str(again)])
    assert again.read_bytes() == exported.read_bytes()


def test_what_is_in_it(exported: Path) -> None:
    with zipfile.ZipFile(exported) as archive:
        names = archive.namelist()
        members = [f"members/{i}.safetensors" for i in range(4)]
        assert names == ["README.md", *members, "model.json", "ordinary.safetensors"]
        card = archive.read("README.md").decode()
        weights = safetensors.numpy.load(archive.read("members/0.safetensors"))
    assert card.startswith("# t: abmil under cross_entropy\n")
    assert "| b | 8 | 0.620 |" in card
    assert f"| weights_sha256 | {'ab' * 32} |" in card
    assert weights["network.standardise.mean"].shape == (8,)


def changed(exported: Path, out: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The file with other contents."""
    with zipfile.ZipFile(exported) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out


def record(**values: object) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        found = {**json.loads(files["model.json"]), **values}
        kept = {name: value for name, value in found.items() if value is not None}
        files["model.json"] = json.dumps(kept).encode()

    return change


def weights(name: str, content: bytes | None) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        if content is None:
            del files[name]
        else:
            files[name] = content

    return change


NARROW = {name: np.zeros(3) for name in ("mean", "deviation", "distances")}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (weights("../up.txt", b"x"), r"holds '../up.txt', which belongs to no model: not opened"),
        (weights("/etc/x", b"x"), r"holds '/etc/x', which belongs to no model: not opened"),
        (weights("data.pkl", b"x"), r"holds 'data.pkl', which belongs to no model"),
        (weights("model.json", None), r"no model of wsi-ncmi: it holds no model.json"),
        (weights("members/2.safetensors", None), r"model.json is not whole"),
        (weights("members/2.safetensors", b"x" * 99), r"damaged \("),
        (weights("model.json", b"[1]"), r"not of the format 'wsi-ncmi model'"),
        (weights("model.json", b"{"), r"damaged \("),
        (record(format="other"), r"not of the format 'wsi-ncmi model'"),
        (
            record(version=2, wsi_ncmi="9.9"),
            r"version 2 .* reads 1: .* by wsi-ncmi 9.9",
        ),
        (record(validated=None), r"model.json is not whole \(KeyError\('validated'\)\)"),
        (record(members=[]), r"its members are not those of its digest"),
        (record(classes=["a"]), r"damaged \(a target is no class\)"),
        (
            weights("ordinary.safetensors", safetensors.numpy.save(NARROW)),
            r"damaged \(ordinary.safetensors is not of 8 features\)",
        ),
    ],
)
def test_what_is_not_opened(
    exported: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], None], text: str
) -> None:
    with pytest.raises(UserError, match=text):
        read_bundle(changed(exported, tmp_path / "other.zip", change))


def test_no_zip_none_and_a_compressed_one(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "README.txt").write_text("text")
    with pytest.raises(
        UserError, match=r"txt: not results/<cohort> nor an exported model \(.zip\)"
    ):
        read_bundle(tmp_path / "README.txt")
    with pytest.raises(UserError, match="no such file"):
        read_bundle(tmp_path / "none.zip")
    torn = tmp_path / "torn.zip"
    torn.write_bytes(exported.read_bytes()[:5000])
    with pytest.raises(UserError, match="damaged"):
        read_bundle(torn)
    flipped = bytearray(exported.read_bytes())
    flipped[flipped.index(b"network.") + 900] ^= 1  # among the weights: zip's own checksum
    torn.write_bytes(flipped)
    with pytest.raises(UserError, match="damaged"):
        read_bundle(torn)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.json", b" " * 10**7)
    with pytest.raises(UserError, match="holds compressed or encrypted files: not opened"):
        read_bundle(tmp_path / "bomb.zip")


def test_sizes_are_bounded(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "LARGEST_RECORD", 1000)
    with pytest.raises(UserError, match=r"of them in model.json: more than .* and 1000"):
        read_bundle(exported)


def test_weights_of_another_shape(exported: Path, tmp_path: Path) -> None:
    def change(files: dict[str, bytes]) -> None:
        found = safetensors.numpy.load(files["members/0.safetensors"])
        found["network.standardise.mean"] = np.zeros(3, np.float32)
        files["members/0.safetensors"] = safetensors.numpy.save(found)

    model = read_bundle(changed(exported, tmp_path / "other.zip", change))
    with pytest.raises(UserError, match=r"the weights do not fit the models' configuration"):
        Scorer(model, model.conformal, 0.9, tmp_path)


def test_a_file_holds_one_arm(exported: Path) -> None:
    with pytest.raises(UserError, match="holds one arm: leave --task, --arm and --run out"):
        model_of(exported, Asked(arm="abmil/cross_entropy"))


def test_a_single_run_and_one_without_a_cache(results: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(results, tmp_path / "copy"))
    (copy / "cache/e/features.npy").unlink()
    evaluation = copy / "runs/t/evaluation/metrics.tsv"
    evaluation.parent.mkdir()
    head = "aggregator\tobjective\tmetric\tvalue\tlow\thigh\n"
    rows = "mean\tncmi\tmacro_f1\t0.9\t0.8\t1\nabmil\tcross_entropy\tmacro_f1\t0.7\t0.6\t0.8\n"
    evaluation.write_text(head + rows)
    out = tmp_path / "one.zip"
    run = "abmil--cross_entropy--fold1--seed0"
    cli.main(["export", "--from", str(copy), "--run", run, "--out", str(out)])
    model = read_bundle(out)
    assert model.ordinary is None
    assert [content["run"]["fold"] for content in model.contents] == [1]
    with zipfile.ZipFile(out) as archive:
        card = archive.read("README.md").decode()
    assert "| macro_f1 | 0.7 | 0.6 | 0.8 |" in card
    assert "0.9 | 0.8" not in card
