"""The pool of an A/A study: what many trainings of one recipe predict on the test samples.

    python benchmarks/aa_pool.py results/aa-study/runs/* --out benchmarks/results/aa_pool.npz

`config/studies/aa.yaml` trains it: every seed is a start, an order and dropouts of its own. The
file holds, of every task, `target`, `patient` and `fold` `[N]`, and of every arm `predicted`
`[S, N]`.
"""

import argparse
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from wsi_ncmi.evaluation import resampling
from wsi_ncmi.evaluation.metrics import Floats, Ints, labels_of
from wsi_ncmi.files.atomic import write_bytes

SAMPLES = ("target", "patient", "fold")


@dataclass(frozen=True, eq=False)
class Pool:
    """All trainings of an arm on a task.

    Attributes:
        target, patient, fold: class, patient and fold of each test sample `[N]`, as indices.
        predicted: class indices `[S, N]`, a row per seed.
    """

    task: str
    arm: str
    target: Ints
    patient: Ints
    fold: Ints
    predicted: Ints

    @property
    def classes(self) -> int:
        return int(self.target.max()) + 1

    @property
    def seeds(self) -> int:
        return len(self.predicted)

    @property
    def patients(self) -> int:
        return int(self.patient.max()) + 1

    @property
    def folds(self) -> int:
        return int(self.fold.max()) + 1

    @property
    def test_to_train(self) -> float:
        """Samples tested in a fold by those of the other folds, the mean over folds."""
        sizes = np.bincount(self.fold)
        return float(np.mean(sizes / (len(self.fold) - sizes)))

    def confusions(self) -> Floats:
        """Of each seed and fold `[S, F, C, C]`: target, predicted."""
        member = np.eye(self.folds)[self.fold]  # [N, F]
        found = [
            resampling.confusions(self.target, row, member, self.classes) for row in self.predicted
        ]
        return np.stack(found)

    def macro_f1(self, confusion: Floats) -> Floats:
        """Over the classes of the whole test part: `[..., C, C]` -> `[...]`."""
        flat = confusion.reshape(-1, self.classes, self.classes)
        found = resampling.macro_f1(flat, labels_of(self.target))
        return found.reshape(confusion.shape[:-2])

    def resampled_confusions(self, count: int, seed: int) -> Floats:
        """Of each seed and fold in resamples of patients, the same for all pools.

        `[S, F, R, C, C]`: target, predicted.
        """
        found = np.empty((self.seeds, self.folds, count, self.classes, self.classes), np.float32)
        members = [self.fold == f for f in range(self.folds)]
        for part, weights in resampling.patient_weights(self.patients, count, seed, block=500):
            of_samples = weights[self.patient]
            for row, predicted in enumerate(self.predicted):
                for f, own in enumerate(members):
                    given = self.target[own], predicted[own], of_samples[own]
                    found[row, f, part] = resampling.confusions(*given, self.classes)
        return found

    def worsened(self, difference: float, seed: int) -> "Pool":
        """With a share of each class's right predictions made wrong, so that macro-F1 falls.

        Args:
            difference: by how much the mean macro-F1 over seeds falls, up to rounding.
            seed: of which predictions, and of what they become.
        """
        rng = np.random.default_rng(seed)
        drawn = rng.uniform(size=self.predicted.shape)
        other = (self.target + rng.integers(1, self.classes, self.predicted.shape)) % self.classes
        right = self.predicted == self.target
        mean = self.macro_f1(self.confusions().sum(1)).mean()

        def with_share(share: float) -> "Pool":
            wrong = right & (drawn < share)
            return replace(self, predicted=np.where(wrong, other, self.predicted))

        low, high = 0.0, 1.0
        for _ in range(30):
            middle = (low + high) / 2
            found = with_share(middle)
            fallen = mean - found.macro_f1(found.confusions().sum(1)).mean()
            low, high = (middle, high) if fallen < difference else (low, middle)
        return with_share(high)


def read(path: Path) -> Iterator[Pool]:
    """The pools of a file that `write` made."""
    with np.load(path) as arrays:
        for name in json.loads(str(arrays["pools"])):
            task = name.split("/")[0]
            target, patient, fold = (arrays[f"{task}/{key}"].astype(np.int64) for key in SAMPLES)
            predicted = arrays[name].astype(np.int64)
            yield Pool(task, name.split("/")[1], target, patient, fold, predicted)


def write(pools: Sequence[Pool], path: Path) -> None:
    """All pools in one compressed file."""
    arrays: dict[str, Any] = {"pools": np.array(json.dumps([f"{p.task}/{p.arm}" for p in pools]))}
    for pool in pools:
        arrays |= {f"{pool.task}/{key}": getattr(pool, key).astype(np.int16) for key in SAMPLES}
        arrays[f"{pool.task}/{pool.arm}"] = pool.predicted.astype(np.uint8)
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_bytes(path, content.getvalue())


def collected(folders: Sequence[Path]) -> list[Pool]:
    """The pools of tasks' folders of runs, `results/<cohort>/runs/<task>`.

    Seeds whose models are not all there are left out.
    """
    return [pool for folder in folders for pool in _of_task(folder)]


def _of_task(folder: Path) -> Iterator[Pool]:
    found: dict[str, dict[int, list[pd.DataFrame]]] = {}
    for path in sorted(folder.glob("*/run.json")):
        run = json.loads(path.read_text())
        columns = ["sample_id", "patient_id", "target", "predicted", "part"]
        rows = pq.read_table(path.parent / "predictions.parquet", columns=columns).to_pandas()
        rows = rows[rows["part"] == "test"].assign(fold=run["fold"])
        found.setdefault(run["objective"], {}).setdefault(run["seed"], []).append(rows)
    for arm, seeds in found.items():
        yield _pool(folder.name, arm, {seed: pd.concat(seeds[seed]) for seed in sorted(seeds)})


def _pool(task: str, arm: str, seeds: Mapping[int, pd.DataFrame]) -> Pool:
    whole = {seed: rows.sort_values("sample_id") for seed, rows in seeds.items()}
    most = max(map(len, whole.values()))
    kept = [rows for rows in whole.values() if len(rows) == most]
    first = kept[0]
    if any(not rows["sample_id"].equals(first["sample_id"].set_axis(rows.index)) for rows in kept):
        raise SystemExit(f"{task}, {arm}: seeds were tested on other samples")
    return Pool(
        task,
        arm,
        first["target"].to_numpy(np.int64),
        np.unique(first["patient_id"], return_inverse=True)[1],
        first["fold"].to_numpy(np.int64),
        np.stack([rows["predicted"].to_numpy(np.int64) for rows in kept]),
    )


def main() -> None:
    """Collect the pool."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="results/<cohort>/runs/<task>")
    parser.add_argument("--out", type=Path, required=True, help="the .npz to write")
    arguments = parser.parse_args()
    pools = collected(arguments.runs)
    write(pools, arguments.out)
    for pool in pools:
        print(f"{pool.task}, {pool.arm}: {pool.seeds} seeds, {len(pool.target)} samples")


if __name__ == "__main__":
    main()
