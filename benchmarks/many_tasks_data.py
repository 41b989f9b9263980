"""The tasks of `many_tasks.py`: bags, rows of tables as bags of one instance, and images."""

import csv
import io
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn import datasets as tables
from sklearn.model_selection import StratifiedGroupKFold

from wsi_ncmi.bags.cache import BagCache
from wsi_ncmi.bags.foreign.packed import PackedFile
from wsi_ncmi.config import ImageTask
from wsi_ncmi.encoders.weights import read_state
from wsi_ncmi.files.frame import read_frame
from wsi_ncmi.images.data import balanced, open_source, to_square

DEMO = Path(__file__).parents[1] / "tests/data/demo_bags.h5"
IMAGES = 3_000
LC_PX = 64
PARTS = 4  # one of them is validation


@dataclass(frozen=True, eq=False)
class Samples:
    """A task in memory.

    Attributes:
        targets: int64 [n], indices of the classes.
        patients: [n], of what must not be in two parts.
        values: n bags [N, D] of floats, or n images uint8 [h, w, 3].
    """

    kind: Literal["bags", "images"]
    classes: list[str]
    targets: NDArray[np.int64]
    patients: list[str]
    values: Sequence[NDArray[Any]]

    @classmethod
    def of(
        cls,
        kind: Literal["bags", "images"],
        values: Sequence[NDArray[Any]],
        labels: Sequence[str],
        patients: Sequence[str] | None = None,
    ) -> "Samples":
        """By labels; without patients each sample is its own."""
        classes, targets = np.unique(labels, return_inverse=True)
        own = [str(i) for i in range(len(labels))] if patients is None else list(patients)
        return cls(kind, [str(c) for c in classes], targets.astype(np.int64), own, values)

    def split(self, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of training and of validation: a quarter of the patients, stratified by class."""
        folds = StratifiedGroupKFold(PARTS, shuffle=True, random_state=seed)
        return next(folds.split(self.targets, self.targets, self.patients))  # type: ignore[no-any-return]


class Source(NamedTuple):
    """Where the tasks' data are.

    Attributes:
        shared: the folder of `docs/real-data.md`.
        camelyon: `results/camelyon17-small`, as `make camelyon17-small` writes it.
    """

    shared: Path
    camelyon: Path


def packed(path: Path, labels: Iterable[str] | None = None) -> Samples:
    """The bags of a packed file that have one of the labels."""
    file = PackedFile(path)
    columns = file.columns()
    patients = columns["case_id" if "case_id" in columns else "patient_id"]
    wanted = set(columns["label"] if labels is None else labels)
    rows = [i for i, label in enumerate(columns["label"]) if label in wanted]
    features, at = file.features[:], file.offsets
    return Samples.of(
        "bags",
        [features[at[i] : at[i + 1]] for i in rows],
        [columns["label"][i] for i in rows],
        [patients[i] for i in rows],
    )


def tcga(source: Source, labels: Iterable[str]) -> Samples:
    """TCGA slides as HIPT's region vectors."""
    return packed(source.shared / "bags/tcga_hipt_regions.h5", labels)


def classic(source: Source, name: str) -> Samples:
    """One of the classical MIL benchmarks."""
    return packed(source.shared / f"bags/classic_mil/{name}.h5")


def demo(source: Source) -> Samples:
    """The bags of the demo's 60 synthetic slides."""
    return packed(DEMO)


def camelyon(source: Source) -> Samples:
    """CAMELYON-17's small copy: synthetic slides under its names, packed by the workflow."""
    found = BagCache(next(source.camelyon.glob("cache/*/index.tsv")).parent)
    sheet = read_frame(source.camelyon / "slides.tsv")
    sheet = sheet[sheet["slide_id"].map(found.has)]
    bags = [np.array(found.read([slide])) for slide in sheet["slide_id"]]
    return Samples.of("bags", bags, list(sheet["label"]), list(sheet["patient_id"]))


def table(source: Source, name: str) -> Samples:
    """One of scikit-learn's bundled tables, each row a bag of one instance."""
    values, targets = getattr(tables, f"load_{name}")(return_X_y=True)
    rows = [row[None].astype(np.float32) for row in values]
    return Samples.of("bags", rows, [str(target) for target in targets])


class Tiles(NamedTuple):
    """LC25000's lung tiles: uint8 [n, 224, 224, 3], labels, and the picture they are made of."""

    pixels: NDArray[np.uint8]
    labels: list[str]
    groups: list[str]


@cache
def lung_tiles(path: Path) -> Tiles:
    """All tiles of the subset."""
    with zipfile.ZipFile(path) as archive:
        rows = list(csv.DictReader(io.TextIOWrapper(archive.open("index.csv"))))
        pixels = [np.asarray(Image.open(archive.open(row["path"])).convert("RGB")) for row in rows]
    labels, groups = ([row[key] for row in rows] for key in ("label", "source_group"))
    return Tiles(np.stack(pixels), labels, groups)


def lc25000(source: Source) -> Tiles:
    """Of the shared folder."""
    return lung_tiles(source.shared / "tiles/lc25000_lung_subset.zip")


def lc_bags(source: Source) -> Samples:
    """Tiles made of one picture are a bag."""
    tiles = lc25000(source)
    weights = source.shared / "weights/mobilenetv2_035_imagenet_keras.safetensors"
    features = mobilenet_features(tiles.pixels, weights)
    groups = {
        group: [i for i, g in enumerate(tiles.groups) if g == group]
        for group in dict.fromkeys(tiles.groups)
    }
    labels = [tiles.labels[rows[0]] for rows in groups.values()]
    return Samples.of("bags", [features[rows] for rows in groups.values()], labels, list(groups))


@torch.inference_mode()
def mobilenet_features(pixels: NDArray[np.uint8], weights: Path) -> NDArray[np.float32]:
    """uint8 [n, 224, 224, 3] -> [n, 1280], by a MobileNetV2 that was trained on ImageNet."""
    network = timm.create_model("mobilenetv2_035", num_classes=0, pad_type="same", bn_eps=1e-3)
    network.load_state_dict(read_state(weights))
    network.eval()
    batches = np.array_split(pixels, -(-len(pixels) // 64))
    found = [
        network(torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 127.5 - 1)
        for batch in batches
    ]
    return torch.cat(found).numpy()


def lc_images(source: Source) -> Samples:
    """The same tiles as images; those made of one picture stay in one part."""
    tiles = lc25000(source)
    small = [to_square(tile, LC_PX) for tile in tiles.pixels]
    return Samples.of("images", small, tiles.labels, tiles.groups)


def images(source: Source, dataset: str, path: str) -> Samples:
    """3,000 training images of a data set, every class equally often."""
    task = ImageTask(dataset=dataset, path=str(source.shared / "images" / path))
    data = open_source(task)
    found = balanced(data, "train", IMAGES, 0)
    values = [np.asarray(found.pixels[i]) for i in range(len(found))]
    return Samples.of("images", values, [data.classes[t] for t in found.targets])


TASKS: dict[str, Callable[[Source], Samples]] = {
    "kidney": partial(tcga, labels=("CCRCC", "PRCC", "CHRCC")),
    "lung": partial(tcga, labels=("LUAD", "LUSC")),
    "breast": partial(tcga, labels=("IDC", "ILC")),
    "musk1": partial(classic, name="musk1"),
    "fox": partial(classic, name="fox"),
    "tiger": partial(classic, name="tiger"),
    "demo": demo,
    "camelyon17-small": camelyon,
    "lc25000-bags": lc_bags,
    "iris": partial(table, name="iris"),
    "wine": partial(table, name="wine"),
    "breast-cancer": partial(table, name="breast_cancer"),
    "digits": partial(table, name="digits"),
    "fashion-mnist": partial(images, dataset="fashion_mnist", path="fashion-mnist"),
    "cifar10": partial(images, dataset="image_folder", path="cifar10_jpeg_subset.zip"),
    "lc25000-images": lc_images,
}
