"""Small image data sets, written as the published ones are."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from wsi_ncmi.config import ImageTask
from wsi_ncmi.stages import image_index

WNIDS = ("n01440764", "n01443537", "n02102040")
WORDS = ("tench, Tinca tinca", "goldfish, Carassius auratus", "English springer")


def picture(seed: int, side: int = 8, kind: str = "PNG") -> bytes:
    """A random picture as a file."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, kind)
    return data.getvalue()


def write_folder(root: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def write_zip(path: Path, files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def tar_bytes(files: Mapping[str, bytes]) -> bytes:
    """A plain tar of these files."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return data.getvalue()


def tiny_imagenet() -> dict[str, bytes]:
    """`tiny-imagenet-200` with three classes: four training and two validation images of each."""
    files = {"wnids.txt": "\n".join(reversed(WNIDS)).encode()}
    words = zip(WNIDS, WORDS, strict=True)
    files["words.txt"] = "\n".join(f"{w}\t{text}" for w, text in words).encode()
    lines = []
    for c, wnid in enumerate(WNIDS):
        for i in range(4):
            files[f"train/{wnid}/images/{wnid}_{i}.JPEG"] = picture(10 * c + i, 64, "JPEG")
        files[f"train/{wnid}/{wnid}_boxes.txt"] = b"x"
        for i in (0, 1):
            name = f"val_{2 * i + 7 * c}.JPEG"
            files[f"val/images/{name}"] = picture(100 + 10 * c + i, 64, "JPEG")
            lines.append(f"{name}\t{wnid}\t0\t0\t63\t63")
    files["val/val_annotations.txt"] = "\n".join(lines).encode()
    files["test/images/test_0.JPEG"] = picture(999, 64, "JPEG")
    return {f"tiny-imagenet-200/{name}": data for name, data in files.items()}


def devkit() -> dict[str, bytes]:
    """ImageNet's devkit for `WNIDS`: their numbers are 2, 3 and 1, and 4 is a group of two."""
    from scipy.io import savemat

    kinds = [("ILSVRC2012_ID", float), ("WNID", object), ("words", object), ("num_children", float)]
    rows = [
        (2, WNIDS[0], WORDS[0], 0),
        (3, WNIDS[1], WORDS[1], 0),
        (1, WNIDS[2], WORDS[2], 0),
        (4, "n00001740", "entity", 2),
    ]
    data = io.BytesIO()
    savemat(data, {"synsets": np.array(rows, kinds)[:, None]})
    truth = b"".join(b"%d\n" % number for number in TRUTH)
    top = "ILSVRC2012_devkit_t12/data"
    return {
        f"{top}/meta.mat": data.getvalue(),
        f"{top}/ILSVRC2012_validation_ground_truth.txt": truth,
    }


TRUTH = (1, 3, 2, 2, 1, 3)
TRUE = [2, 1, 0, 0, 2, 1]
"""The validation images' numbers in the devkit, and their classes."""


def imagenet_train() -> dict[str, dict[str, bytes]]:
    """Synset -> its three training images."""
    return {
        wnid: {f"{wnid}_{i}.JPEG": picture(10 * c + i, 16, "JPEG") for i in range(3)}
        for c, wnid in enumerate(WNIDS)
    }


def imagenet_val() -> dict[str, bytes]:
    return {
        f"ILSVRC2012_val_{i + 1:08d}.JPEG": picture(50 + i, 16, "JPEG") for i in range(len(TRUE))
    }


def index_of(task: ImageTask, folder: Path) -> Path:
    """Index a task's data set into a folder, and give the folder."""
    image_index.run(task, folder / "summary.json", 1)
    return folder
