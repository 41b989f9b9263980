"""How long the intervals of one model take, and how much memory, up to ImageNet's size.

    python benchmarks/large_evaluation.py --out benchmarks/results/large_evaluation.json

Predictions are made: an image a patient, the true class's score raised by 4 standard deviations, so
that 76 % of 1,000 classes are right. Times are of the processor, on one thread; memory is the
process's largest, the predictions included. Each size runs in a process of its own. `before` in the
results is what the code before took: at the largest size one block of 4 resamples, of which 2,000
resamples had 500.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from wsi_ncmi.evaluation.bootstrap import bootstrap
from wsi_ncmi.evaluation.samples import Arm, Samples
from wsi_ncmi.machine import machine

SIZES = ((10_000, 10, 2000), (10_000, 100, 2000), (50_000, 1000, 2000))


def made(n: int, classes: int) -> tuple[Samples, Arm]:
    """Test images and one model's predictions of them."""
    rng = np.random.default_rng(0)
    target = rng.permutation(np.arange(n) % classes)
    scores = rng.standard_normal((1, n, classes), dtype=np.float32)
    scores[0, np.arange(n), target] += 4
    return Samples(target, np.arange(n), classes), Arm(scores.argmax(2), scores)


def measured(n: int, classes: int, resamples: int) -> dict[str, Any]:
    """Every metric with its interval, of one model."""
    samples, arm = made(n, classes)
    started = time.process_time()
    found = bootstrap(samples, {"arm": arm}, resamples, seed=0)["arm"]
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    shown = {}
    for name in ("macro_f1", "auroc", "nll"):
        low, high = found[name].interval(0.95)
        shown[name] = [round(value, 5) for value in (found[name].value, low, high)]
    size = {"images": n, "classes": classes, "resamples": resamples}
    return {**size, "cpu_seconds": round(seconds, 1), "peak_gb": round(peak / 1e9, 2), **shown}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--size", type=int, nargs=3, metavar=("IMAGES", "CLASSES", "RESAMPLES"))
    given = parser.parse_args()
    if given.size:
        print(json.dumps(measured(*given.size)))
        return
    rows = []
    for size in SIZES:
        command = [sys.executable, __file__, "--size", *map(str, size)]
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=one_thread)
        rows.append(json.loads(done.stdout))
        print(rows[-1])
    found = json.loads(given.out.read_text()) if given.out.is_file() else {}
    found |= {"machine": machine(), "rows": rows}  # what the code before took stays
    given.out.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
