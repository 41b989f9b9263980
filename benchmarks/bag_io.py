"""Writing and reading a bag: ours, and CLAM's and TRIDENT's layouts.

    python benchmarks/bag_io.py

One slide of 20,000 tiles and 1024-d features, page cache warm. The layouts, from the tools' own
code: CLAM (utils/file_utils.py, extract_features_fp.py) appends float32 batches to an HDF5 file in
chunks of (32, D) that it opens anew for each, and then copies all into a .pt file, which its
training reads; TRIDENT (trident/IO.py) writes float32 once in chunks of (1, D). Ours: float16,
contiguous; flushed to the disk, read back, its checksum compared, then renamed. "ours, unchecked"
writes the same data without that. Prints times and ratios, writes results/bag_io-cpu.json.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from measure import RESULTS, ratio, record, spent
from numpy.typing import NDArray

from wsi_ncmi.bags.store import Bag, cast_features, read_bag, write_bag

CPU = torch.device("cpu")
CLAM_BATCH, CLAM_CHUNK = 256, 32
RANDOM_ROWS = 2048
OURS = "ours"


@dataclass(frozen=True)
class Data:
    """A slide's features as an encoder gives them.

    Attributes:
        features: float32 `[N, D]`; coords: int32 `[N, 2]`.
        rows: int64 `[R]`, sorted: those that are read one by one.
    """

    features: NDArray[np.float32]
    coords: NDArray[np.int32]
    rows: NDArray[np.int64]

    @classmethod
    def made(cls, count: int, dim: int) -> "Data":
        rng = np.random.default_rng(0)
        rows = np.sort(rng.choice(count, min(RANDOM_ROWS, count // 2), replace=False))
        coords = rng.integers(0, 100_000, (count, 2), dtype=np.int32)
        return cls(rng.standard_normal((count, dim), np.float32), coords, rows)

    def bag(self) -> Bag:
        half = cast_features(self.features, "float16")
        return Bag(
            features=half,
            coords=self.coords,
            tissue_fraction=np.ones(len(half), np.float16),
            invalid_coords=np.empty((0, 2), np.int32),
            augmented=np.empty((0, *half.shape), half.dtype),
            attributes={"digest": "made"},
        )


def write_unchecked(path: Path, bag: Bag) -> None:
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = bag.features, bag.coords


def write_clam_h5(path: Path, data: Data) -> None:
    path.unlink(missing_ok=True)
    for start in range(0, len(data.features), CLAM_BATCH):
        batch = slice(start, start + CLAM_BATCH)
        append(path, "features", data.features[batch], CLAM_CHUNK)
        append(path, "coords", data.coords[batch], CLAM_CHUNK)


def append(path: Path, name: str, rows: NDArray[Any], chunk: int) -> None:
    """Rows behind those that a data set of a file holds, which is opened for it."""
    with h5py.File(path, "a") as file:
        if name not in file:
            shape = rows.shape[1:]
            file.create_dataset(name, data=rows, maxshape=(None, *shape), chunks=(chunk, *shape))
            return
        data = file[name]
        data.resize(len(data) + len(rows), axis=0)
        data[-len(rows) :] = rows


def write_clam_pt(path: Path, h5: Path) -> None:
    with h5py.File(h5) as file:
        torch.save(torch.from_numpy(file["features"][:]), path)


def write_trident(path: Path, data: Data) -> None:
    path.unlink(missing_ok=True)
    append(path, "features", data.features, 1)
    append(path, "coords", data.coords, 1)


def read_h5(path: Path) -> NDArray[Any]:
    with h5py.File(path) as file:
        return file["features"][:]


def rows_h5(path: Path, rows: NDArray[np.int64]) -> NDArray[Any]:
    with h5py.File(path) as file:
        return file["features"][rows]


def read_pt(path: Path) -> NDArray[Any]:
    return torch.load(path, weights_only=True).numpy()


def rows_pt(path: Path, rows: NDArray[np.int64]) -> NDArray[Any]:
    return torch.load(path, weights_only=True, mmap=True)[torch.from_numpy(rows)].numpy()


def paths(folder: Path) -> dict[str, Path]:
    names = {OURS: "ours.h5", "CLAM h5": "clam.h5", "CLAM pt": "clam.pt", "TRIDENT": "trident.h5"}
    return {rival: folder / name for rival, name in names.items()}


def writers(data: Data, folder: Path) -> dict[str, Callable[[], None]]:
    at, bag = paths(folder), data.bag()

    def clam() -> None:
        write_clam_h5(at["CLAM h5"], data)
        write_clam_pt(at["CLAM pt"], at["CLAM h5"])

    return {
        OURS: lambda: write_bag(at[OURS], bag),
        "ours, unchecked": lambda: write_unchecked(folder / "unchecked.h5", bag),
        "CLAM h5": lambda: write_clam_h5(at["CLAM h5"], data),
        "CLAM h5 and pt": clam,
        "TRIDENT": lambda: write_trident(at["TRIDENT"], data),
    }


Read = Callable[[], NDArray[Any]]


def readers(folder: Path) -> dict[str, Read]:
    at = paths(folder)
    return {
        OURS: lambda: read_bag(at[OURS]).features,
        "CLAM h5": lambda: read_h5(at["CLAM h5"]),
        "CLAM pt": lambda: read_pt(at["CLAM pt"]),
        "TRIDENT": lambda: read_h5(at["TRIDENT"]),
    }


def row_readers(data: Data, folder: Path) -> dict[str, Read]:
    at = paths(folder)
    return {
        OURS: lambda: rows_h5(at[OURS], data.rows),
        "CLAM h5": lambda: rows_h5(at["CLAM h5"], data.rows),
        "CLAM pt": lambda: rows_pt(at["CLAM pt"], data.rows),
        "TRIDENT": lambda: rows_h5(at["TRIDENT"], data.rows),
    }


def check(found: dict[str, Read], wanted: NDArray[np.float32]) -> None:
    """Every layout gives back what was written, ours as float16.

    Raises:
        AssertionError: one does not, and its time means nothing.
    """
    for name, read in found.items():
        values = read()
        assert values.shape == wanted.shape, f"{name}: {values.shape}"
        assert (values == wanted.astype(values.dtype)).all(), f"{name}: other values"


def discarding(found: dict[str, Read]) -> dict[str, Callable[[], None]]:
    def call(read: Read) -> Callable[[], None]:
        def once() -> None:
            read()

        return once

    return {name: call(read) for name, read in found.items()}


def measure(data: Data, folder: Path, rounds: int) -> dict[str, Any]:
    """Seconds of each layout for each use, and how many times those of ours they are."""
    times = {"write": spent(writers(data, folder), CPU, rounds=rounds)}
    whole, some = readers(folder), row_readers(data, folder)
    check(whole, data.features)
    check(some, data.features[data.rows])
    times["read"] = spent(discarding(whole), CPU, rounds=rounds)
    times[f"read {len(data.rows)} random rows"] = spent(discarding(some), CPU, rounds=rounds)
    return {
        "bytes": {name: path.stat().st_size for name, path in paths(folder).items()},
        "ratio": {
            use: {name: ratio(rivals, name, OURS, clock="wall") for name in rivals}
            for use, rivals in times.items()
        },
        "seconds": times,
    }


def show(found: dict[str, Any]) -> None:
    for use, rivals in found["seconds"].items():
        for name, taken in rivals.items():
            times = f"{found['ratio'][use][name]:6.2f} x ours"
            print(f"{use:24} {name:16} {taken['wall_s'] * 1e3:9.1f} ms {times}")
    for name, size in found["bytes"].items():
        print(f"{'size':24} {name:16} {size / 1e6:9.1f} MB")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="a small bag, to try it out")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON file")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    count, dim = (1_000, 64) if args.quick else (20_000, 1024)
    data = Data.made(count, dim)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(data, Path(folder), args.rounds)
    show(found)
    content = {"quick": args.quick, "shape": [count, dim], **found}
    print(record("bag_io", CPU, content, args.out))


if __name__ == "__main__":
    main()
