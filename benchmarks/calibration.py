"""What calibrations that are fitted on validation are worth on the test part, for every loss.

From the predictions of finished runs: the scores of validation and test that they hold have one
scale, which changes no calibration fitted anew. A row is one task and one arm; its values are means
over folds and seeds.

    python benchmarks/calibration.py results/kidney-study results/lung-breast-study
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from measure import RESULTS

from wsi_ncmi.evaluation import metrics
from wsi_ncmi.files.atomic import write_json
from wsi_ncmi.losses.calibration import Kind, fitted

KINDS: tuple[Kind, ...] = ("temperature", "bias", "vector")
SHOWN = (metrics.AUROC, metrics.NLL, metrics.MACRO_F1)


def worth(predictions: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Kind of calibration -> metrics on the test part of one run."""
    parts = {
        name: (torch.from_numpy(np.stack(part.scores)).double(), np.array(part.target))
        for name, part in predictions.groupby("part")
    }
    (raw, labels), (scores, target) = parts["val"], parts["test"]
    found = {}
    for kind in KINDS:
        calibration = fitted(kind, raw, torch.from_numpy(labels), len(labels))
        given = calibration(scores).numpy()
        values = metrics.evaluate(target, given.argmax(1), given)
        found[kind] = {name: values[name] for name in SHOWN}
    return found


def runs(folder: Path) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Task, arm and predictions of every run that was trained."""
    for path in sorted(folder.glob("**/predictions.parquet")):
        record = path.with_name("run.json")
        if record.exists():
            facts = json.loads(record.read_text())
            yield facts["task"], facts["objective"], pd.read_parquet(path)


def table(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """A row for each task, arm and calibration."""
    found = defaultdict(list)
    for folder in folders:
        for task, arm, predictions in runs(folder):
            found[task, arm].append(worth(predictions))
    return [
        {
            "task": task,
            "arm": arm,
            "calibration": kind,
            "runs": len(each),
            **{name: float(np.mean([one[kind][name] for one in each])) for name in SHOWN},
        }
        for (task, arm), each in found.items()
        for kind in KINDS
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and write it to `results/calibration.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="results with finished runs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    rows = table(given.folders)
    print(pd.DataFrame(rows).round(4).to_string(index=False))
    write_json(given.out / "calibration.json", rows)


if __name__ == "__main__":
    main()
