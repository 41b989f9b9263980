"""MUSK1, FOX and TIGER in one packed file, for the studies of docs/results.md.

    python benchmarks/classic_bags.py ../shared/data/bags/classic_mil --out classic.h5

Labels get the name of their data set in front (`fox-positive`). Features are standardised by the
task (`standardise`); those of MUSK1, which are fewer, get columns of zeros, which say nothing. FOX
and TIGER have many of their negative bags in common: such a bag is one patient, in one part.
"""

import argparse
from pathlib import Path

import h5py
import numpy as np

from wsi_ncmi.files.atomic import atomic_path

SETS = ("musk1", "fox", "tiger")


def joined(folder: Path) -> dict[str, np.ndarray]:
    """The datasets of the packed layout, see `wsi_ncmi.bags.foreign.packed`."""
    features, counts, texts = [], [], {"slide_id": [], "case_id": [], "label": []}
    for name in SETS:
        with h5py.File(folder / f"{name}.h5") as file:
            features.append(file["features"][:])
            counts.append(np.diff(file["offsets"][:]))
            found = {key: file[key].asstr()[:] for key in texts}
        found["label"] = np.array([f"{name}-{label}" for label in found["label"]])
        for key, values in texts.items():
            values.append(found[key].astype("S"))
    width = max(part.shape[1] for part in features)
    padded = [np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in features]
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    whole = {"features": np.concatenate(padded), "offsets": offsets.astype(np.int64)}
    whole |= {key: np.concatenate(values) for key, values in texts.items()}
    return whole | {"case_id": _one_patient_a_bag(whole)}


def _one_patient_a_bag(whole: dict[str, np.ndarray]) -> np.ndarray:
    """The patients [bags]: of equal bags, the first one's."""
    bags = np.split(whole["features"], whole["offsets"][1:-1])
    first: dict[bytes, bytes] = {}
    names = [
        first.setdefault(bag.tobytes(), own)
        for bag, own in zip(bags, whole["case_id"], strict=True)
    ]
    return np.array(names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of musk1.h5, fox.h5 and tiger.h5")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    with atomic_path(given.out) as temporary, h5py.File(temporary, "w", locking=False) as file:
        for name, values in joined(given.folder).items():
            file[name] = values
    print(given.out)


if __name__ == "__main__":
    main()
