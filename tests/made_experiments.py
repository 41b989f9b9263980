"""The experiments of config/images/ on small made data: their results, with tiny trainings."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import yaml
from made_images import (
    WNIDS,
    devkit,
    imagenet_train,
    imagenet_val,
    picture,
    write_folder,
    write_zip,
)

from wsi_ncmi.config import Config, parse
from wsi_ncmi.files import atomic
from wsi_ncmi.stages import evaluate, experiment, image_index, images

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / "config" / "images").glob("*.yaml"))
SIDE, OF_CLASS = 28, 4


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


def is_full(path: Path) -> bool:
    return path.stem.endswith("-full")


def small_configs(experiment: str) -> Iterator[Path]:
    """The small configurations that ask for an experiment."""
    for path in CONFIGS:
        if not is_full(path) and read(path)["experiment"]["name"] == experiment:
            yield path


# --- data in the layouts of the published sets ---------------------------------------------------


def _idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    path.write_bytes(header + array.tobytes())


def _pictures(
    seed: int, side: int, channels: tuple[int, ...], classes: int, of_class: int = OF_CLASS
) -> Any:
    """`of_class` random pictures of every class, each class as bright as its number says."""
    labels = np.arange(classes * of_class) % classes
    noise = np.random.default_rng(seed).integers(0, 60, (len(labels), side, side, *channels))
    bright = (labels * 190 // classes).reshape(-1, *[1] * (noise.ndim - 1))
    return (noise + bright).astype(np.uint8), labels


def write_mnist(path: Path, of_class: int = OF_CLASS) -> None:
    path.mkdir(parents=True)
    for part, seed in (("train", 0), ("t10k", 1)):
        images, labels = _pictures(seed, SIDE, (), 10, of_class)
        _idx(path / f"{part}-images-idx3-ubyte", images)
        _idx(path / f"{part}-labels-idx1-ubyte", labels.astype(np.uint8))


def write_cifar(path: Path, classes: int) -> None:
    """The binary archive's files."""
    path.mkdir(parents=True)
    names = {
        10: [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"],
        100: ["train.bin", "test.bin"],
    }[classes]
    for seed, name in enumerate(names):
        images, labels = _pictures(seed, 32, (3,), classes)
        flat = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        columns = [labels // 5, labels] if classes == 100 else [labels]
        rows = np.concatenate([np.stack(columns, 1).astype(np.uint8), flat], 1)
        (path / name).write_bytes(rows.tobytes())
    if classes == 10:
        (path / "batches.meta.txt").write_text("\n".join(f"class {i}" for i in range(10)))
    else:
        (path / "fine_label_names.txt").write_text("\n".join(f"class {i}" for i in range(100)))
        (path / "coarse_label_names.txt").write_text("\n".join(f"group {i}" for i in range(20)))


def write_imagenet(path: Path) -> None:
    """Class folders, with the devkit's validation."""
    files = dict(devkit())
    for wnid in WNIDS:
        files |= {f"train/{wnid}/{name}": data for name, data in imagenet_train()[wnid].items()}
    write_folder(path, files | {f"val/{name}": data for name, data in imagenet_val().items()})


def write_image_folder(path: Path) -> None:
    files = {
        f"{part}/class_{c}/{i}.jpg": picture(seed + 100 * c + i, 32, "JPEG")
        for part, seed in (("train", 0), ("test", 50))
        for c in range(10)
        for i in range(OF_CLASS)
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_zip(path, files) if path.suffix == ".zip" else write_folder(path, files)


WRITERS: dict[str, Callable[[Path], None]] = {
    "mnist": write_mnist,
    "fashion_mnist": write_mnist,
    "cifar10": lambda path: write_cifar(path, 10),
    "cifar100": lambda path: write_cifar(path, 100),
    "imagenet": write_imagenet,
    "image_folder": write_image_folder,
}
"""Kind of data set -> what writes a small one; other kinds need no files."""


def write_data(raw: dict[str, Any], folder: Path) -> None:
    """The data of all tasks of a configuration, below a folder to which its paths are relative."""
    for task in raw["images"].values():
        path = folder / task["path"]
        if task["dataset"] in WRITERS and not path.exists():
            WRITERS[task["dataset"]](path)


# --- finished results ----------------------------------------------------------------------------

TINY = {"epochs": 1, "warmup_fraction": 0.0}
MOST_ARMS = 4
"""Of a task: trainings of more would say nothing else of an experiment."""
SHORTER = {"characters": {"length": 6000, "symbols": 12}}
"""Kind of data set that needs no files -> options by which it is small."""
TINY_OPTIONS: dict[str, dict[str, Any]] = {
    "robustness": {"steps": 3, "autoattack_samples": 0},
}
"""Experiment -> options that keep it short."""


def shrunk(raw: dict[str, Any], folder: Path) -> Config:
    """The configuration with two seeds of one epoch each, on small made data below a folder."""
    made: dict[str, Any] = json.loads(json.dumps(raw))  # anchors of YAML share what is changed
    write_data(made, folder)
    for task in made["images"].values():
        if not task["path"].startswith("package:"):
            task["path"] = str(folder / task["path"])
        task["options"] = {**task.get("options", {}), **SHORTER.get(task["dataset"], {})}
        task |= {"seeds": [0, 1], "validation_fraction": 0.25}
        task |= {"train_samples": None, "test_samples": None}
        task["training"] = {**task.get("training", {}), **TINY}
        if "objectives" in task:
            task["objectives"] = _few(task["objectives"], task.get("reference", "cross_entropy"))
    own = made["experiment"]
    own["options"] = {**own.get("options", {}), **TINY_OPTIONS.get(own["name"], {})}
    made["evaluation"] = {**made.get("evaluation", {}), "bootstrap": 100}
    schemas = json.loads((ROOT / "workflow" / "schemas" / "parts.schema.json").read_text())
    return parse(made, schemas["preset"], schemas["objective_preset"])


def _few(arms: dict[str, Any], reference: str) -> dict[str, Any]:
    """The reference and the first others, with the first candidate of every search.

    Of arms that differed in their number of epochs alone, one is left.
    """
    kept = [reference, *(name for name in arms if name != reference)][:MOST_ARMS]
    found = {name: arm for name, arm in arms.items() if name in kept}
    for arm in found.values():
        arm["training"] = {k: v for k, v in arm.get("training", {}).items() if k not in TINY}
        for values in (arm.get("search") or {}).values():
            values |= {key: tried[:1] for key, tried in values.items()}
    contents = {name: {"part": name, **found[name]} for name in kept}
    first = {repr(sorted(own.items())): name for name, own in reversed(contents.items())}
    return {name: arm for name, arm in found.items() if name in first.values()}


def finish(config: Config, results: Path) -> Path:
    """Train and evaluate every task, then the experiment; gives its folder.

    Without the figures of `evaluate`, and without waiting for the disk: both take longer.
    """
    with (
        patch.object(evaluate, "_draw"),
        patch.object(evaluate, "_draw_comparisons"),
        patch.object(atomic, "_flush"),
    ):
        _train_and_evaluate(config, results)
    experiment.run(results, config, results / "experiment" / "findings.json")
    return results / "experiment"


def _train_and_evaluate(config: Config, results: Path) -> None:
    for name, task in config.images.items():
        index = results.parent / "data-sets" / task.source
        if not index.exists():
            image_index.run(task, index / "summary.json", 1)
        folder = results / "runs" / name
        images.run_splits(task, index, folder / "splits.tsv")
        for seed in task.seeds:
            images.run(name, task, config.cohort, seed, index, folder, 1)
        manifests = [folder / f"seed-{seed}.tsv" for seed in task.seeds]
        out = folder / "evaluation"
        evaluate.run(folder, manifests, None, config.evaluation, task.reference, out)
