"""Simulated second cohorts: how often does the interval of the difference hold the true one?

    python benchmarks/external_simulated.py  # -> benchmarks/results/external_simulated.json

The accuracy of patients inside, tested in 5 folds, and of other patients outside, tested by the
models of all folds. Whether a patient is classified rightly depends on how difficult he is, on his
model's training, which is the same inside and outside, and on chance. Outside is harder by `shift`.
"""

import argparse
import itertools
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from wsi_ncmi.evaluation.metrics import Floats
from wsi_ncmi.evaluation.primary import Passes, between_cohorts
from wsi_ncmi.evaluation.samples import arrangements
from wsi_ncmi.files.atomic import write_json

RESULTS = Path(__file__).parent / "results"
CONFIDENCE = 0.95
FOLDS, RESAMPLES, CHUNK = 5, 200, 100
INSIDE, OUTSIDE = 300, (50, 300)
SEED_SDS = {"none": 0.0, "small": 0.1, "large": 0.4}
"""Standard deviation between trainings, where chance and difficulty have 1."""
SEEDS = (2, 5)
SHIFTS = (0.0, 0.5)
EASE = 0.5


def truth(shift: float, seed_sd: float) -> float:
    """Accuracy of a new training on a new patient."""
    return float(stats.norm.cdf((EASE - shift) / np.sqrt(2 + seed_sd**2)))


def passes(
    right: Floats, fold: np.ndarray, patient: np.ndarray, rng: np.random.Generator
) -> Passes:
    """From which tests `[pairs, S, N]` were right."""
    seeds, count = right.shape[1], patient.max() + 1
    drawn = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES).T
    weights = drawn[patient] / len(patient)
    orders = arrangements(np.zeros(seeds, int), FOLDS, 8, 0)
    others = [np.take_along_axis(right, o[None, :, fold], 1).mean(-1) for o in orders]
    given = right.mean(-1), right @ weights, np.stack(others, 1)
    return Passes(*given, np.zeros(seeds, np.int64), FOLDS)


def cohorts(
    pairs: int, outside: int, shift: float, seed_sd: float, seeds: int, rng: np.random.Generator
) -> tuple[Passes, Passes]:
    """Outside and inside, of the same trainings."""
    training = rng.normal(0, seed_sd, (pairs, seeds, FOLDS))
    found = []
    for ease, patient, fold in (
        (EASE - shift, np.repeat(np.arange(outside), FOLDS), np.tile(np.arange(FOLDS), outside)),
        (EASE, np.arange(INSIDE), np.arange(INSIDE) % FOLDS),
    ):
        difficulty = rng.normal(ease, 1, (pairs, 1, patient.max() + 1))[..., patient]
        chance = rng.normal(size=(pairs, seeds, len(patient)))
        right = (difficulty + training[..., fold] + chance > 0).astype(np.float64)
        found.append(passes(right, fold, patient, rng))
    return found[0], found[1]


def held(
    repetitions: int, outside: int, shift: float, seed_sd: float, seeds: int
) -> dict[str, Any]:
    """Shares of intervals that hold the true difference: with trainings, and by patients alone."""
    rng = np.random.default_rng([outside, seeds])
    true = truth(shift, seed_sd) - truth(0, seed_sd)
    inside_of: list[list[Floats]] = [[], [], []]
    for _ in range(repetitions // CHUNK):
        pair = cohorts(CHUNK, outside, shift, seed_sd, seeds, rng)
        found = between_cohorts(*pair, (outside, INSIDE))
        low, high = found.interval(CONFIDENCE)
        by_patients = (pair[0].resamples - pair[1].resamples).mean(axis=-2)
        few, many = np.quantile(by_patients, [0.025, 0.975], axis=-1)
        inside_of[0].append((low <= true) & (true <= high))
        inside_of[1].append((few <= true) & (true <= many))
        inside_of[2].append((low > 0) | (high < 0))
    names = ("trainings_and_patients", "patients_alone", "without_0")
    return {n: float(np.mean(values)) for n, values in zip(names, inside_of, strict=True)}


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULTS / "external_simulated.json")
    parser.add_argument("--repetitions", type=int, default=3000)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for outside, shift, (name, sd), seeds in itertools.product(
        OUTSIDE, SHIFTS, SEED_SDS.items(), SEEDS
    ):
        found = held(arguments.repetitions, outside, shift, sd, seeds)
        row = {"outside": outside, "shift": shift, "seed_sd": sd, "seeds": seeds}
        rows.append({**row, "true": truth(shift, sd) - truth(0, sd), **found})
        print(outside, shift, name, seeds, found, flush=True)
    write_json(arguments.out, {"repetitions": arguments.repetitions, "rows": rows})


if __name__ == "__main__":
    main()
