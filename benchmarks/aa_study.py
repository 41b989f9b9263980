"""An A/A study: how often does a test find a difference between two arms that are one and the same?

    python benchmarks/aa_study.py            # benchmarks/results/aa_pool.npz -> aa_study.json
    python benchmarks/aa_study.py --figure docs/images/aa_study.png --only-figure

Of a pool of trainings of one recipe (`aa_pool.py`), disjoint sets of seeds are drawn as two arms,
again and again; each test says whether macro-F1 differs at the 5 % level. A test that keeps its
word does so in 5 % of the pairs. Models of different folds are trained independently, so seeds are
drawn in each fold for itself: 60 seeds in 5 folds are 300 trainings, not 60, to draw from. Power:
of one arm a share of the right predictions is made wrong, so that the true difference is known.

What varies is the training. Partition and test samples are those of the pool, so the study does not
say what a test makes of another partition or of other patients.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from aa_figure import draw
from aa_pool import Pool, read
from scipy import stats

from wsi_ncmi.evaluation.metrics import Floats, Ints
from wsi_ncmi.evaluation.primary import (
    Outcome,
    Passes,
    corrected_t,
    hierarchical_bootstrap,
    of_trainings,
)
from wsi_ncmi.evaluation.samples import arrangements
from wsi_ncmi.files.atomic import write_bytes, write_json

RESULTS = Path(__file__).parent / "results"
LEVEL, CONFIDENCE, POWER = 0.05, 0.95, 0.8
RESAMPLES, ARRANGEMENTS = 500, 16
CHUNK = 50
DIFFERENCES = (0.005, 0.01, 0.02, 0.03)
SEEDS = (2, 3, 5, 10)
COMMON = 5
"""Seeds of an arm where power is measured."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A pool, and its `confusion` `[S, F, C, C]` and `resampled` `[S, F, R, C, C]`."""

    pool: Pool
    confusion: Floats
    resampled: Floats

    @classmethod
    def of(cls, pool: Pool, count: int = RESAMPLES) -> "Trained":
        return cls(pool, pool.confusions(), pool.resampled_confusions(count, seed=0))

    @property
    def mean(self) -> float:
        """Macro-F1 of all folds together, the mean over seeds."""
        return float(self.pool.macro_f1(self.confusion.sum(1)).mean())

    def passes(self, seeds: Ints) -> Passes:
        """Of arms of m seeds in each fold `[B, m, F]`, as the evaluation makes them of one arm."""
        repeat, folds = np.zeros(seeds.shape[1], np.int64), range(self.pool.folds)
        orders = arrangements(repeat, len(folds), ARRANGEMENTS, 0)  # [M, m, F]
        own = [self.confusion[seeds[..., f], f] for f in folds]  # [B, m, C, C] each
        mixed = sum(own[f][:, orders[..., f]] for f in folds)
        resampled = sum(self.resampled[seeds[..., f], f] for f in folds)
        found = (self.pool.macro_f1(np.asarray(c)) for c in (sum(own), resampled, mixed))
        return Passes(*found, repeat, len(folds))

    def of_folds(self, seeds: Ints) -> Floats:
        """Macro-F1 of each seed and fold `[B, m, F]`."""
        return self.pool.macro_f1(self.confusion[seeds, np.arange(self.pool.folds)])


@dataclass(frozen=True, eq=False)
class Pairs:
    """B pairs of arms of m seeds each, in each fold others: `[B, m, F]`."""

    arm: Trained
    reference: Trained
    arm_seeds: Ints
    reference_seeds: Ints

    @cached_property
    def passes(self) -> tuple[Passes, Passes]:
        return self.arm.passes(self.arm_seeds), self.reference.passes(self.reference_seeds)

    @property
    def by_fold(self) -> Floats:
        """Differences of each seed and fold `[B, m, F]`."""
        return self.arm.of_folds(self.arm_seeds) - self.reference.of_folds(self.reference_seeds)


def hierarchical(pairs: Pairs) -> Outcome:
    """Patients and trainings as components of the variance: the evaluation's."""
    return hierarchical_bootstrap(*pairs.passes, pairs.arm.pool.patients, paired=False)


def trainings_floored(pairs: Pairs) -> Outcome:
    """The same components, but what trainings add to the variation of patients is floored at 0.

    Var = V_patients + max(0, V_trainings − V_both).
    """
    own = [of_trainings(side) for side in pairs.passes]
    arm, reference = pairs.passes
    mean = arm.resamples.mean(axis=-2) - reference.resamples.mean(axis=-2)
    patients = mean.var(axis=-1, ddof=1, dtype=np.float64)
    excess = [np.maximum(0, one.spread - one.both) for one in own]
    total = patients + sum(excess)
    share = sum(e**2 / one.freedom for e, one in zip(excess, own, strict=True))
    freedom = total**2 / (share + patients**2 / (pairs.arm.pool.patients - 1))
    difference = arm.values.mean(axis=-1) - reference.values.mean(axis=-1)
    return Outcome(difference, np.sqrt(total), freedom)


def corrected_by_fold(pairs: Pairs) -> Outcome:
    """Nadeau and Bengio's over folds, seeds averaged: the evaluation's."""
    return corrected_t(pairs.by_fold.mean(1), pairs.arm.pool.test_to_train)


def corrected_by_run(pairs: Pairs) -> Outcome:
    """The same over folds × seeds, taken for as many resamplings."""
    flat = pairs.by_fold.reshape(len(pairs.arm_seeds), -1)
    return corrected_t(flat, pairs.arm.pool.test_to_train)


def plain_by_fold(pairs: Pairs) -> Outcome:
    """A paired t test over folds, without a correction."""
    return corrected_t(pairs.by_fold.mean(1), 0.0)


def welch(pairs: Pairs) -> Outcome:
    """Welch's t test over seeds: the variation of training alone."""
    one, other = (side.values for side in pairs.passes)
    parts = [side.var(axis=1, ddof=1) / side.shape[1] for side in (one, other)]
    total = parts[0] + parts[1]
    with np.errstate(invalid="ignore"):  # two equal seeds
        freedom = total**2 / ((parts[0] ** 2 + parts[1] ** 2) / (one.shape[1] - 1))
    return Outcome(one.mean(1) - other.mean(1), np.sqrt(total), freedom)


OUTCOMES: Mapping[str, Callable[[Pairs], Outcome]] = {
    "hierarchical bootstrap": hierarchical,
    "the same, trainings floored": trainings_floored,
    "corrected t, folds": corrected_by_fold,
    "corrected t, folds × seeds": corrected_by_run,
    "t over folds": plain_by_fold,
    "Welch's t over seeds": welch,
}


def patient_bootstrap(pairs: Pairs, rng: np.random.Generator) -> Floats:
    """p-values by percentiles over patients, the trained models as given: `fixed_models`."""
    arm, reference = pairs.passes
    return two_sided(arm.resamples.mean(1) - reference.resamples.mean(1))


def resampled_seeds(pairs: Pairs, rng: np.random.Generator) -> Floats:
    """p-values by percentiles, patients and seeds resampled together."""
    found = []
    for side in pairs.passes:
        batch, seeds, count = side.resamples.shape
        drawn = rng.integers(0, seeds, (batch, seeds, count))
        found.append(np.take_along_axis(side.resamples, drawn, 1).mean(1))
    return two_sided(found[0] - found[1])


P_VALUES: Mapping[str, Callable[[Pairs, np.random.Generator], Floats]] = {
    "patient bootstrap": patient_bootstrap,
    "patients and seeds resampled": resampled_seeds,
}


def two_sided(differences: Floats) -> Floats:
    """p by the share of resamples on the other side of zero `[B, R]` -> `[B]`."""
    tail = np.minimum((differences <= 0).sum(1), (differences >= 0).sum(1))
    return np.minimum(1, 2 * (tail + 1) / (differences.shape[1] + 1))


def drawn(
    arm: Trained, reference: Trained, seeds: int, repetitions: int, rng: np.random.Generator
) -> Iterator[Pairs]:
    """Pairs of arms that have no model in common, in chunks."""
    rows = np.arange(arm.pool.seeds)
    for start in range(0, repetitions, CHUNK):
        size = min(CHUNK, repetitions - start), arm.pool.folds
        chosen = rng.permuted(np.tile(rows, (*size, 1)), axis=2)[..., : 2 * seeds]
        part = chosen.transpose(0, 2, 1)  # [B, 2 m, F]
        yield Pairs(arm, reference, part[:, :seeds], part[:, seeds:])


def study(
    arm: Trained, reference: Trained, seeds: int, repetitions: int, seed: int
) -> Iterator[dict[str, Any]]:
    """A row for each test: how often it finds a difference, and how often it promises to."""
    rng = np.random.default_rng(seed)
    truth = arm.mean - reference.mean
    p_values: dict[str, list[Floats]] = {name: [] for name in (*OUTCOMES, *P_VALUES)}
    promised: dict[str, list[Floats]] = {name: [] for name in OUTCOMES}
    detectable: dict[str, list[Floats]] = {name: [] for name in OUTCOMES}
    for pairs in drawn(arm, reference, seeds, repetitions, rng):
        for name, test in OUTCOMES.items():
            found = test(pairs)
            p_values[name].append(found.p_value)
            promised[name].append(power(found, truth))
            detectable[name].append(found.detectable(CONFIDENCE, POWER))
        for name, p_value in P_VALUES.items():
            p_values[name].append(p_value(pairs, rng))
    for name, values in p_values.items():
        rejected = int((np.concatenate(values) < LEVEL).sum())
        interval = stats.binomtest(rejected, repetitions).proportion_ci(CONFIDENCE, "wilson")
        row = {"test": name, "seeds": seeds, "difference": truth, "repetitions": repetitions}
        low, high = float(interval.low), float(interval.high)
        row |= {"rejected": rejected / repetitions, "low": low, "high": high}
        if name in OUTCOMES:
            row["promised"] = float(np.mean(np.concatenate(promised[name])))
            row["detectable"] = float(np.mean(np.concatenate(detectable[name])))
        yield row


def power(found: Outcome, difference: float) -> Floats:
    """With which probability each test says that it finds a true difference."""
    quantile = stats.t.ppf(1 - LEVEL / 2, found.freedom)
    with np.errstate(all="ignore"):
        shift = abs(difference) / found.error
        upper = stats.nct.sf(quantile, found.freedom, shift)
        lower = stats.nct.cdf(-quantile, found.freedom, shift)
    # Far from zero the noncentral distribution cannot be computed, and the answer is plain.
    return np.where(np.isnan(upper + lower), shift > quantile, upper + lower)


def studied(pool: Pool, repetitions: int) -> Iterator[dict[str, Any]]:
    """All rows of a pool: no difference, the given ones, and the one promised to be detectable."""
    same = Trained.of(pool)
    key = {"task": pool.task, "arm": pool.arm}
    detectable = 0.0
    for seeds in SEEDS:
        if 2 * seeds <= pool.seeds:
            for row in study(same, same, seeds, repetitions, seed=seeds):
                yield {**key, "kind": "none", **row}
                if seeds == COMMON and row["test"] == "hierarchical bootstrap":
                    detectable = row["detectable"]
    for kind, size in [*(("given", d) for d in DIFFERENCES), ("detectable", detectable)]:
        worse = Trained.of(pool.worsened(size, seed=1))
        for row in study(worse, same, COMMON, repetitions, seed=COMMON):
            yield {**key, "kind": kind, **row}


def facts(pool: Pool) -> dict[str, Any]:
    values = pool.macro_f1(pool.confusions().sum(1))
    return {
        "task": pool.task,
        "arm": pool.arm,
        "seeds": pool.seeds,
        "folds": pool.folds,
        "samples": len(pool.target),
        "patients": pool.patients,
        "macro_f1": float(values.mean()),
        "seed_sd": float(values.std(ddof=1)),
    }


def main() -> None:
    """Run the study, or draw it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pool", type=Path, default=RESULTS / "aa_pool.npz")
    parser.add_argument("--out", type=Path, default=RESULTS / "aa_study.json")
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--figure", type=Path, help="PNG to draw")
    parser.add_argument("--only-figure", action="store_true", help="draw what --out has already")
    arguments = parser.parse_args()
    if not arguments.only_figure:
        pools = list(read(arguments.pool))
        rows: list[dict[str, Any]] = []
        for pool in pools:
            rows += studied(pool, arguments.repetitions)
            print_rows(rows, pool)
        write_json(arguments.out, {"level": LEVEL, "pools": [*map(facts, pools)], "rows": rows})
    if arguments.figure:
        write_bytes(arguments.figure, draw(arguments.out))


def print_rows(rows: list[dict[str, Any]], pool: Pool) -> None:
    for row in rows:
        if (row["task"], row["arm"]) == (pool.task, pool.arm):
            print(
                f"{row['task']:8} {row['arm']:14} {row['seeds']:2} seeds {row['difference']:+.3f} "
                f"{row['test']:30} {row['rejected']:.3f} ({row['low']:.3f} to {row['high']:.3f}) "
                f"promised {row.get('promised', float('nan')):.3f}"
            )


if __name__ == "__main__":
    main()
