"""Training, evaluation and embeddings on images by commands, without Snakemake."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from wsi_ncmi.bags.foreign.packed import PackedFile
from wsi_ncmi.cli import main
from wsi_ncmi.errors import ConfigError, UserError
from wsi_ncmi.tools.images.given import given_task
from wsi_ncmi.tools.images.train import evaluate
from wsi_ncmi.training.images import load_run

RUN = "lenet5--ncmi--fold0--seed0"


def write_folder(folder: Path) -> Path:
    """Bright and dark pictures of 28 pixels."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 20), ("test", 6)):
        for name, shift in (("bright", 130), ("dark", 0)):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 100, (28, 28, 3)) + shift
                Image.fromarray(pixels.astype(np.uint8)).save(
                    folder / part / name / f"{number:02}.png"
                )
    return folder


def keys(path: Path) -> list[str]:
    return [
        "dataset=image_folder",
        f"path={path}",
        "model=lenet5",
        "training.epochs=4",
        "training.batch_size=8",
        "training.learning_rate=0.003",
        "validation_fraction=0.2",
        "seeds=[0]",
        "objectives={cross_entropy: {}, ncmi: {}}",
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("images")
    data, out = write_folder(folder / "data"), folder / "out"
    main(["images", "train", "--out", str(out), *keys(data)])
    return data, out


def test_every_objective_is_trained_and_evaluated(
    trained: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = trained
    before = {path: path.stat().st_mtime_ns for path in out.rglob("run.json")}
    assert len(before) == 2
    main(["images", "train", "--out", str(out), *keys(data)])  # nothing is done again
    assert {path: path.stat().st_mtime_ns for path in out.rglob("run.json")} == before
    main(["images", "evaluate", "--runs", str(out)])
    assert capsys.readouterr().out == (out / "evaluation" / "metrics.tsv").read_text()
    found = pd.read_csv(out / "evaluation" / "differences.tsv", sep="\t")
    assert set(found.objective) == {"ncmi"}


def test_embeddings_are_bags_of_one_instance(trained: tuple[Path, Path], tmp_path: Path) -> None:
    data, out = trained
    Image.new("RGB", (40, 30), (200, 10, 30)).save(tmp_path / "large.png")
    main(
        ["images", "embed", "--run", str(out / RUN), "--images", str(data / "test"),
         "--out", str(tmp_path / "z.h5"), "--batch-size", "5"]
    )  # fmt: skip
    packed = PackedFile(tmp_path / "z.h5")
    names = [f"{name}/{number:02}.png" for name in ("bright", "dark") for number in range(6)]
    assert list(packed.position) == names
    assert packed.offsets.tolist() == list(range(13))
    encoder, objective, _ = load_run(out / RUN, torch.device("cpu"))
    pixels = np.stack([np.asarray(Image.open(data / "test" / name)) for name in names])
    with torch.inference_mode():
        z = encoder(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        predicted = objective.scores(torch.from_numpy(packed.features[:])).argmax(1)
    np.testing.assert_allclose(packed.features[:], z.numpy(), rtol=1e-5, atol=1e-6)
    rows = pd.read_parquet(out / RUN / "predictions.parquet").set_index("sample_id")
    expected = rows.loc[[f"test/{name}" for name in names], "predicted"]
    assert predicted.tolist() == expected.tolist()
    main(["images", "embed", "--run", str(out / RUN), "--images", str(tmp_path),
          "--out", str(tmp_path / "one.h5")])  # fmt: skip
    assert PackedFile(tmp_path / "one.h5").features.shape == (1, 84)


def test_a_folder_that_is_no_run_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(["images", "embed", "--run", str(tmp_path), "--images", str(tmp_path),
              "--out", str(tmp_path / "z.h5")])  # fmt: skip
    with pytest.raises(UserError, match=r"no task.json, expected a folder that `images train`"):
        evaluate(tmp_path)
    (tmp_path / "task.json").write_text(
        json.dumps({"task": {"dataset": "mnist", "path": "x"}, "evaluation": {}})
    )
    with pytest.raises(UserError, match=r"no seed-0.tsv, seed-1.tsv, seed-2.tsv: give `images tra"):
        evaluate(tmp_path)


def test_keys_count_more_than_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "images: {a: {dataset: mnist, path: m, training: {epochs: 5, batch_size: 4}}}"
    )
    given = given_task([tmp_path / "a.yaml"], None, ["training.epochs=7", "small_stem=false"])
    assert given[0] == "a"
    assert (given[1].training.epochs, given[1].training.batch_size) == (7, 4)
    assert given[1].small_stem is False


@pytest.mark.parametrize(
    ("text", "name", "given", "message"),
    [
        ("images: {a: {}, b: {}}", None, [], "2 tasks: choose one by --name: a, b"),
        ("images: {a: {}}", "c", [], "no task 'c', expected one of a"),
        ("images: {a: {}}", None, ["epochs"], "'epochs': expected key=value"),
        ("images: {a: {path: x}}", None, ["path.y=3"], "path.y: path is 'x', which has no keys"),
        ("images: {a: {path: x}}", None, ["dataset=mnist", "epoch=3"], "images.a.epoch: unknown"),
        ("images: {a: {path: x}}", None, [], "images.a.dataset: missing"),
    ],
)
def test_what_does_not_fit_is_said(
    tmp_path: Path, text: str, name: str | None, given: list[str], message: str
) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        given_task([tmp_path / "a.yaml"], name, given)
