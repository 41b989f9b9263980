"""The examples of CONTRIBUTING.md are whole parts that work, each through a whole stage too."""

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import paint
from made_images import index_of
from made_results import write_tsv

from wsi_ncmi import config, encoders, registry
from wsi_ncmi.aggregators.bags import BagBatch
from wsi_ncmi.bags.store import read_bag
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Extraction, ImageTask, Task, Tiling
from wsi_ncmi.experiments.arms import METRICS
from wsi_ncmi.experiments.results import Results
from wsi_ncmi.images.models import build_network
from wsi_ncmi.stages import features, images, tiles, train

TRAINING = {"epochs": 8, "batch_size": 4, "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def sources(root: Path) -> dict[str, str]:
    """File name -> the code that stands below it."""
    text = (root / "CONTRIBUTING.md").read_text()
    found = r"`(wsi_ncmi/\S+\.py)`, used by.*?```python\n(.*?)```"
    return dict(re.findall(found, text, re.DOTALL))


@pytest.fixture(scope="module")
def examples(sources: dict[str, str]) -> dict[str, ModuleType]:
    """File name -> its module."""
    modules = {}
    for path, code in sources.items():
        module = ModuleType(Path(path).stem)
        exec(compile(code, path, "exec"), module.__dict__)
        modules[path] = module
    return modules


def test_one_of_each_kind(examples: dict[str, ModuleType]) -> None:
    folders = [package.replace(".", "/") for package in registry.KINDS.values()]
    assert sorted(str(Path(path).parent) for path in examples) == sorted(folders)


def test_aggregator(examples: dict[str, ModuleType]) -> None:
    module = examples["wsi_ncmi/aggregators/max.py"]
    aggregator = module.build(4, 2, registry.options_of(module, {"hidden_dim": 3})).eval()
    first, second = torch.randn(5, 4), torch.randn(2, 4)
    whole = aggregator(BagBatch.of([first, second])).embedding
    torch.testing.assert_close(aggregator(BagBatch.of([first])).embedding[0], whole[0])
    expected = torch.relu(aggregator.instance[0](first)).amax(0)
    torch.testing.assert_close(whole[0], expected)


def test_objective_between_cross_entropy_and_the_absolute_error(
    examples: dict[str, ModuleType],
) -> None:
    module = examples["wsi_ncmi/losses/gce.py"]
    z, target = torch.randn(8, 6), torch.arange(8) % 2
    for q in (1e-3, 1.0):
        objective = module.build(6, [3, 3], registry.options_of(module, {"q": q}))
        cross_entropy = torch.nn.functional.cross_entropy(objective.head(z), target)
        own = objective.head(z).softmax(1)[torch.arange(8), target]
        expected = (1 - own).mean() if q == 1 else cross_entropy
        torch.testing.assert_close(objective(z, target).total, expected, rtol=5e-3, atol=0)


def test_encoder(examples: dict[str, ModuleType]) -> None:
    module = examples["wsi_ncmi/encoders/mean_colour.py"]
    encoder = module.build("mean_colour", module.Options(), None)
    features = encoder.module(torch.full((2, 3, 8, 8), 0.25))
    assert features.shape == (2, encoder.dim)
    torch.testing.assert_close(features[:, :3], torch.full((2, 3), 0.25))


def test_dataset(examples: dict[str, ModuleType], tmp_path: Path) -> None:
    module = examples["wsi_ncmi/images/datasets/arrays.py"]
    images = np.arange(4 * 2 * 2 * 3, dtype=np.uint8).reshape(4, 2, 2, 3)
    labels = np.array([0, 1, 0, 1])
    path = tmp_path / "toy.npz"
    parts = {"train_images": images, "train_labels": labels}
    np.savez(path, **parts, test_images=images[:2], test_labels=labels[:2])
    dataset = module.build(path, registry.options_of(module, {"classes": ["dark", "light"]}))
    assert dataset.classes == ["dark", "light"]
    assert dataset.train.targets.tolist() == [0, 1, 0, 1]
    np.testing.assert_array_equal(dataset.test.pixels[1], images[1])
    np.savez(path, **parts)
    with pytest.raises(module.DatasetError, match="lacks test_images, test_labels"):
        module.build(path, module.Options())


@pytest.fixture
def add(
    sources: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], str]:
    """Put an example's file where its package looks for parts, and give the part's name."""

    def put(path: str) -> str:
        package = importlib.import_module(str(Path(path).parent).replace("/", "."))
        folder = tmp_path / package.__name__
        folder.mkdir()
        (folder / Path(path).name).write_text(sources[path])
        name = Path(path).stem
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
        monkeypatch.setitem(sys.modules, f"{package.__name__}.{name}", ModuleType(name))
        del sys.modules[f"{package.__name__}.{name}"]  # and again when the test is over
        return name

    return put


def test_a_file_is_all_that_an_encoder_needs(add: Callable[[str], str]) -> None:
    name = add("wsi_ncmi/encoders/mean_colour.py")
    assert name in registry.names("encoder")
    assert encoders.build_encoder(name, {"input_px": 32}, None).input_px == 32
    assert encoders.published_facts(name) is None  # planning asks of every encoder


def test_aggregator_and_objective_are_trained(
    add: Callable[[str], str], tmp_path: Path, cache_folder: Path, splits: pd.DataFrame
) -> None:
    aggregator = add("wsi_ncmi/aggregators/max.py")
    objective = add("wsi_ncmi/losses/gce.py")
    task = Task.model_validate(
        {
            "classes": ["a", "b", "c"],
            "aggregators": {aggregator: {"options": {"hidden_dim": 16}}},
            "objectives": {"cross_entropy": {}, objective: {"options": {"q": 0.5}}},
            "training": TRAINING,
        }
    )
    splits.to_csv(tmp_path / "splits.tsv", sep="\t", index=False)
    out = tmp_path / "runs"
    train.run("t", task, "c", "e", 0, cache_folder, tmp_path / "splits.tsv", out, 1)
    rows = pd.read_parquet(out / "max--gce--fold0--seed0" / "predictions.parquet")
    test = rows[rows.part == "test"]
    assert len(test) == 12
    assert (test.target == test.predicted).mean() > 0.6  # chance is 0.33


def test_encoder_makes_a_bag(add: Callable[[str], str], tmp_path: Path) -> None:
    paint(tmp_path / "a.tif", 0, coarse=False)
    rows = [SlideRow("a", "label", "patient", "centre", str(tmp_path / "a.tif"))]
    tiles.run(rows, Tiling(mpp=2.0, tile_px=64), tmp_path / "tiles", tmp_path / "tiles.tsv", 1)
    extraction = Extraction(encoder=add("wsi_ncmi/encoders/mean_colour.py"), dtype="float32")
    bags = tmp_path / "bags"
    features.run(rows, extraction, tmp_path / "tiles", bags, tmp_path / "bags.tsv", 1)
    found = read_bag(bags / "a.h5").features
    assert found.shape == (len(found), 6)
    assert len(found) > 20
    assert (found[:, 1] < found[:, [0, 2]].min(1)).all()  # a purple slide: green is least
    assert (found[:, 3:] > 0).all()


def test_experiment(examples: dict[str, ModuleType], tmp_path: Path) -> None:
    module = examples["wsi_ncmi/experiments/best.py"]
    accuracies = {"ncmi": 0.6, "cross_entropy": 0.5}
    scores = pd.DataFrame(
        [
            {"aggregator": "lenet5", "objective": objective, "metric": metric, "value": value}
            | {"low": value - 0.1, "high": value + 0.1, "runs": 3, "failed": 0}
            for objective, value in accuracies.items()
            for metric in METRICS.values()
        ]
    )
    write_tsv(tmp_path / "runs/digits/evaluation/metrics.tsv", scores)
    (tmp_path / "runs/digits/evaluation/summary.json").write_text("{}")
    empty = pd.DataFrame(columns=["objective", "metric", "difference", "low", "high"])
    write_tsv(tmp_path / "runs/digits/evaluation/differences.tsv", empty)
    raw = {"cohort": "c", "images": {"digits": {"dataset": "mnist", "path": "x"}}}
    built = module.build(registry.options_of(module, {}))
    found = built.findings(Results(tmp_path, config.parse(raw)))
    assert found.sentences == ["digits: NCMI has the highest accuracy, 0.600."]


def test_network(add: Callable[[str], str]) -> None:
    name = add("wsi_ncmi/images/networks/pooled.py")
    task = ImageTask(dataset="mnist", path="x", model=name, model_options={"width": 7})
    encoder = build_network(task, (28, 28), [0.5] * 3, [0.25] * 3)
    assert encoder(torch.zeros(2, 3, 28, 28, dtype=torch.uint8)).shape == (2, 7)


def test_data_set_is_trained_on(add: Callable[[str], str], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 2
    pixels = (rng.integers(0, 90, (80, 16, 16, 3)) + 120 * labels[:, None, None, None]).astype("u1")
    parts = {"train_images": pixels, "train_labels": labels}
    np.savez(tmp_path / "toy.npz", **parts, test_images=pixels[:20], test_labels=labels[:20])
    task = ImageTask.model_validate(
        {
            "dataset": add("wsi_ncmi/images/datasets/arrays.py"),
            "path": str(tmp_path / "toy.npz"),
            "options": {"classes": ["dark", "light"]},
            "model": "test_resnet",
            "small_stem": False,
            "validation_fraction": 0.2,
            "objectives": {"cross_entropy": {}},
            "training": {**TRAINING, "epochs": 3},
        }
    )
    index = index_of(task, tmp_path / "index")
    images.run("toy", task, "c", 0, index, tmp_path / "runs", 1)
    folder = tmp_path / "runs" / "test_resnet--cross_entropy--fold0--seed0"
    rows = pd.read_parquet(folder / "predictions.parquet")
    assert rows.groupby("part").size().to_dict() == {"val": 16, "test": 20}
    test = rows[rows.part == "test"]
    assert test.target.tolist() == labels[:20].tolist()
    assert (test.target == test.predicted).all()  # dark or light
