"""Simulated pairs of arms that are trained alike: how often are they told apart at 5 %?

    python benchmarks/aa_simulated.py        # -> benchmarks/results/aa_simulated.json

The accuracy of patients in 5 folds. Whether a patient is classified rightly depends on how
difficult he is, on his fold's training, and on chance. Unlike in `aa_study.py`, patients are drawn
anew for each pair.
"""

import argparse
import itertools
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from wsi_ncmi.evaluation.metrics import Floats
from wsi_ncmi.evaluation.primary import Passes, hierarchical_bootstrap
from wsi_ncmi.evaluation.samples import arrangements
from wsi_ncmi.files.atomic import write_json

RESULTS = Path(__file__).parent / "results"
LEVEL = 0.05
PATIENTS, FOLDS, RESAMPLES, CHUNK = 300, 5, 200, 100
SEED_SDS = {"none": 0.0, "small": 0.1, "large": 0.4}
"""Standard deviation between trainings, where chance and difficulty have 1."""
SEEDS = (2, 3, 5)


def pairs(
    count: int, seed_sd: float, seeds: int, *, paired: bool, rng: np.random.Generator
) -> tuple[Passes, Passes]:
    """Two arms `count` times.

    Args:
        paired: half of what training makes, and of chance, is common to both arms of a seed.
    """
    fold = np.arange(PATIENTS) % FOLDS
    weights = rng.multinomial(PATIENTS, np.full(PATIENTS, 1 / PATIENTS), RESAMPLES).T / PATIENTS
    orders = arrangements(np.zeros(seeds, int), FOLDS, 8, 0)
    difficulty = rng.normal(0.5, 1, (count, 1, PATIENTS))

    def noise() -> Floats:
        training = rng.normal(0, seed_sd, (count, seeds, FOLDS))[..., fold]
        found: Floats = training + rng.normal(size=(count, seeds, PATIENTS))
        return found

    common = noise()

    def arm() -> Passes:
        own = (noise() + common) / np.sqrt(2) if paired else noise()
        right = (own + difficulty > 0).astype(np.float64)
        others = [np.take_along_axis(right, o[None, :, fold], 1).mean(-1) for o in orders]
        passes = right.mean(-1), right @ weights, np.stack(others, 1)
        return Passes(*passes, np.zeros(seeds, np.int64), FOLDS)

    return arm(), arm()


def rejected(repetitions: int, seed_sd: float, seeds: int, *, paired: bool) -> tuple[float, float]:
    """Shares of the pairs that `hierarchical_bootstrap` and the patient bootstrap tell apart."""
    rng = np.random.default_rng([seeds, paired])
    found: list[tuple[Floats, Floats]] = []
    for _ in range(repetitions // CHUNK):
        arm, reference = pairs(CHUNK, seed_sd, seeds, paired=paired, rng=rng)
        primary = hierarchical_bootstrap(arm, reference, PATIENTS, paired=paired)
        error = (arm.resamples - reference.resamples).mean(1).std(axis=-1, ddof=1)
        of_models = 2 * stats.norm.sf(np.abs(primary.difference) / error)
        found.append((primary.p_value, of_models))
    primary_p, models_p = (np.concatenate(p) for p in zip(*found, strict=True))
    return float(np.mean(primary_p < LEVEL)), float(np.mean(models_p < LEVEL))


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULTS / "aa_simulated.json")
    parser.add_argument("--repetitions", type=int, default=3000)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for (name, sd), seeds, paired in itertools.product(SEED_SDS.items(), SEEDS, (False, True)):
        primary, models = rejected(arguments.repetitions, sd, seeds, paired=paired)
        row = {"seed_sd": sd, "seeds": seeds, "paired": paired}
        rows.append(row | {"hierarchical_bootstrap": primary, "patient_bootstrap": models})
        print(f"{name:6} {seeds} {'one stream' if paired else 'own streams':11} "
              f"{primary:.3f}, patient bootstrap {models:.3f}", flush=True)  # fmt: skip
    write_json(arguments.out, {"repetitions": arguments.repetitions, "rows": rows})


if __name__ == "__main__":
    main()
