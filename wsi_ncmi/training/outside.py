"""Trained models on bags that none of them was trained or tested on, read once for many models."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_ncmi.bags.cache import BagCache
from wsi_ncmi.errors import BagError
from wsi_ncmi.training.bags import Sample, packed
from wsi_ncmi.training.mil import load_run
from wsi_ncmi.training.progress import Line

TOGETHER = 64
"""Models that are held at once: bags may be larger than the memory, and are read for each lot."""


def score_outside(
    folders: Sequence[Path], samples: Sequence[Sample], cache: BagCache, device: torch.device
) -> NDArray[np.float32]:
    """Calibrated class log-odds [M, N, C] of every sample by every run, in float32.

    Raises:
        BagError: the bags have another number of features than those that were trained on, or a
            score is not finite.
    """
    found, line = [], Line(time.perf_counter, sys.stderr)
    for start in range(0, len(folders), TOGETHER):
        lot = folders[start : start + TOGETHER]
        said = f"models {start + 1} to {start + len(lot)} of {len(folders)}"
        found.append(_score_lot(lot, samples, cache, device, line, said))
    line.close()
    return np.concatenate(found)


@torch.inference_mode()
def _score_lot(
    folders: Sequence[Path],
    samples: Sequence[Sample],
    cache: BagCache,
    device: torch.device,
    line: Line,
    said: str,
) -> NDArray[np.float32]:
    models = [load_run(folder, device) for folder in folders]
    for *_, content in models:
        if content["feature_dim"] != cache.dim:
            raise BagError(
                f"the bags have {cache.dim} features, expected {content['feature_dim']} as in the "
                "training: they are of another encoder"
            )
    rows = []
    for number, sample in enumerate(samples, 1):
        bag = packed([cache.bags(sample.slide_ids)], device)
        scores = [objective.scores(network.bag(bag).embedding) for network, objective, _ in models]
        rows.append(torch.cat(scores).float().cpu().numpy())
        if not np.isfinite(rows[-1]).all():
            wrong = folders[int(np.flatnonzero(~np.isfinite(rows[-1]).all(axis=1))[0])].name
            raise BagError(
                f"{', '.join(sample.slide_ids)}: {wrong} gives scores that are not finite: look at "
                "the bag with wsi-ncmi bags verify"
            )
        if line.is_due:
            line.show(f"{said}: {number} of {len(samples)} samples")
    return np.stack(rows, axis=1)
