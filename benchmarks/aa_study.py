"""An A/A study: how often does a test find a difference between two arms that are one and the same?

    python benchmarks/aa_study.py            # benchmarks/results/aa_pool.npz -> aa_study.json
    python benchmarks/aa_study.py --figure docs/images/aa_study.png --only-figure

Of a pool of trainings of one recipe (`aa_pool.py`), disjoint sets of seeds are drawn as two arms,
again and again; each test says whether macro-F1 differs at the 5 % level. A test that keeps its
word does so in 5 % of the pairs. Power: of one arm a share of the right predictions is made wrong,
so that the true difference is known.

What varies is the training. Partition and test samples are those of the pool, so the study does not
say what a test makes of another partition or of other patients.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

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
    training_variance,
)
from wsi_ncmi.evaluation.samples import arrangements
from wsi_ncmi.files.atomic import write_bytes, write_json

RESULTS = Path(__file__).parent / "results"
LEVEL, CONFIDENCE, POWER = 0.05, 0.95, 0.8
RESAMPLES, ARRANGEMENTS = 1000, 16
CHUNK = 100
DIFFERENCES = (0.005, 0.01, 0.015, 0.02, 0.03, 0.05)
SEEDS = (3, 5, 10)
COMMON = 5
"""Seeds of an arm where power is measured."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A pool with what all pairs need: `confusion` `[S, F, C, C]`, `resamples` `[S, R]`."""

    pool: Pool
    confusion: Floats
    resamples: Floats

    @classmethod
    def of(cls, pool: Pool, count: int = RESAMPLES) -> "Trained":
        return cls(pool, pool.confusions(), pool.resamples(count, seed=0))

    @property
    def values(self) -> Floats:
        """Macro-F1 of each seed, all folds together `[S]`."""
        return self.pool.macro_f1(self.confusion.sum(1))

    def passes(self, seeds: Ints) -> Passes:
        """Of arms of m seeds each `[B, m]`, as the evaluation makes them of one arm."""
        repeat = np.zeros(seeds.shape[1], np.int64)
        orders = arrangements(repeat, self.pool.folds, ARRANGEMENTS, 0)  # [M, m, F]
        own = self.confusion[seeds]  # [B, m, F, C, C]
        mixed = sum(own[:, orders[..., f], f] for f in range(self.pool.folds))
        rearranged = self.pool.macro_f1(np.asarray(mixed))
        found = self.values[seeds], self.resamples[seeds], rearranged
        return Passes(*found, repeat, self.pool.folds)

    def of_folds(self, seeds: Ints) -> Floats:
        """Macro-F1 of each seed and fold `[B, m, F]`."""
        return self.pool.macro_f1(self.confusion)[seeds]


@dataclass(frozen=True, eq=False)
class Pairs:
    """B pairs of arms of m seeds each."""

    arm: Trained
    reference: Trained
    arm_seeds: Ints
    reference_seeds: Ints

    @property
    def sides(self) -> list[tuple[Trained, Ints]]:
        return [(self.arm, self.arm_seeds), (self.reference, self.reference_seeds)]

    @property
    def passes(self) -> tuple[Passes, Passes]:
        return self.arm.passes(self.arm_seeds), self.reference.passes(self.reference_seeds)

    @property
    def by_fold(self) -> Floats:
        """Differences of each seed and fold `[B, m, F]`."""
        return self.arm.of_folds(self.arm_seeds) - self.reference.of_folds(self.reference_seeds)


def hierarchical(pairs: Pairs) -> Outcome:
    """Patients and trainings as components of the variance: the evaluation's."""
    arm, reference = pairs.passes
    return hierarchical_bootstrap(arm, reference, pairs.arm.pool.patients, paired=False)


def components(pairs: Pairs) -> Outcome:
    """The same components, but what patients add to the variation of training is floored at 0.

    Var = V_trainings + max(0, V_patients − V_both). Patients differ by a variance, which cannot be
    below 0. What trainings share can: a model that gains patients of one class loses others, so
    that macro-F1 moves less between trainings than single predictions do.
    """
    sides = pairs.passes
    own = [training_components(side) for side in sides]
    both = sum(part.both for part in own)
    mean = sides[0].resamples.mean(axis=-2) - sides[1].resamples.mean(axis=-2)
    excess = np.maximum(0, mean.var(axis=-1, ddof=1, dtype=np.float64) - both)
    total = excess + sum(part.spread for part in own)
    share = sum(part.spread**2 / part.freedom for part in own)
    freedom = total**2 / (share + excess**2 / (pairs.arm.pool.patients - 1))
    difference = sides[0].values.mean(axis=-1) - sides[1].values.mean(axis=-1)
    return Outcome(difference, np.sqrt(total), freedom)


class Components(NamedTuple):
    """Of an arm's mean over seeds: variance between trainings, and what is of single patients."""

    spread: Floats
    both: Floats
    freedom: float


def training_components(passes: Passes) -> Components:
    """As `evaluation.primary` has them, of one partition."""
    count = passes.values.shape[-1]
    spread = passes.rearranged.var(axis=-1, ddof=1).mean(axis=-1) / count
    deviations = passes.resamples - passes.resamples.mean(axis=-2, keepdims=True)
    both = deviations.var(axis=-1, ddof=1, dtype=np.float64).sum(axis=-1) / (count * (count - 1))
    return Components(spread, both, float(training_variance(passes)[1].flat[0]))


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
    one, other = (side.values[seeds] for side, seeds in pairs.sides)
    parts = [side.var(axis=1, ddof=1) / side.shape[1] for side in (one, other)]
    total = parts[0] + parts[1]
    freedom = total**2 / ((parts[0] ** 2 + parts[1] ** 2) / (one.shape[1] - 1))
    return Outcome(one.mean(1) - other.mean(1), np.sqrt(total), freedom)


OUTCOMES: Mapping[str, Callable[[Pairs], Outcome]] = {
    "hierarchical bootstrap": hierarchical,
    "components, patients floored": components,
    "corrected t, folds": corrected_by_fold,
    "corrected t, folds × seeds": corrected_by_run,
    "t over folds": plain_by_fold,
    "Welch's t over seeds": welch,
}


def patient_bootstrap(pairs: Pairs, rng: np.random.Generator) -> Floats:
    """p-values by percentiles over patients, the trained models as given: `fixed_models`."""
    arm = pairs.arm.resamples[pairs.arm_seeds].mean(1)
    return two_sided(arm - pairs.reference.resamples[pairs.reference_seeds].mean(1))


def resampled_seeds(pairs: Pairs, rng: np.random.Generator) -> Floats:
    """p-values by percentiles, patients and seeds resampled together."""
    found = []
    for side, seeds in pairs.sides:
        count, of_arm = side.resamples.shape[1], seeds.shape[1]
        mean = np.zeros((len(seeds), count), np.float32)
        for _ in range(of_arm):
            chosen = np.take_along_axis(seeds, rng.integers(0, of_arm, (len(seeds), count)), 1)
            mean += side.resamples[chosen, np.arange(count)] / of_arm
        found.append(mean)
    return two_sided((found[0] - found[1]).astype(np.float64))


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
    """Pairs of arms that have no seed in common, in chunks."""
    rows = np.tile(np.arange(arm.pool.seeds), (repetitions, 1))
    chosen = rng.permuted(rows, axis=1)[:, : 2 * seeds]
    for start in range(0, repetitions, CHUNK):
        part = chosen[start : start + CHUNK]
        yield Pairs(arm, reference, part[:, :seeds], part[:, seeds:])


def study(
    arm: Trained, reference: Trained, seeds: int, repetitions: int, seed: int
) -> Iterator[dict[str, Any]]:
    """A row for each test: how often it finds a difference, and how often it promises to."""
    rng = np.random.default_rng(seed)
    truth = float(arm.values.mean() - reference.values.mean())
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
    shift = abs(difference) / found.error
    with np.errstate(all="ignore"):
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
