"""The small tables of numbers that come with scikit-learn: nothing has to be downloaded.

`path` is the folder that scikit-learn reads them from, `package:sklearn/datasets/data`. There is no
test part: `test_fraction` cuts one off.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from wsi_ncmi.bounds import bounded, check_options
from wsi_ncmi.images.datasets.interface import DatasetError, ImageDataset, Images
from wsi_ncmi.images.kinds import VECTOR

FILES = {
    "breast_cancer": "breast_cancer.csv",
    "digits": "digits.csv.gz",
    "iris": "iris.csv",
    "wine": "wine_data.csv",
}


@dataclass(frozen=True)
class Options:
    """Options of a table.

    Attributes:
        table: `breast_cancer` (569 samples, 30 features, 2 classes), `digits` (1797, 64, 10),
            `iris` (150, 4, 3) or `wine` (178, 13, 3).
        test_fraction: fraction of every class that becomes the test part, between 0 and 1.
        test_seed: random seed of that split.
    """

    table: Literal["breast_cancer", "digits", "iris", "wine"] = "digits"
    test_fraction: float = bounded(0.3, above=0, below=1)
    test_seed: int = bounded(0, least=0, below=2**32)

    def __post_init__(self) -> None:
        check_options(self)


def build(path: Path, options: Options) -> ImageDataset:
    """Samples float32 [f]; the classes are called as scikit-learn calls them.

    Raises:
        DatasetError: the path is not scikit-learn's folder.
    """
    from sklearn import datasets

    folder = Path(datasets.__file__).parent / "data"
    if path.resolve() != folder.resolve():
        raise DatasetError(
            f"{path}: the tables are read by scikit-learn, from {folder}: write path: "
            "package:sklearn/datasets/data"
        )
    found = getattr(datasets, f"load_{options.table}")()
    ids = [f"row-{row:04d}" for row in range(len(found.target))]
    values, targets = found.data.astype(np.float32), found.target.astype(np.int64)
    whole = Images(ids, targets, values, kind=VECTOR)
    parts = whole.split(options.test_fraction, options.test_seed, "options.test_fraction")
    classes = [str(name) for name in found.target_names]
    return ImageDataset(classes, *parts, (path / FILES[options.table],), protocol="holdout")
