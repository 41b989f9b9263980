"""A patient's pN stage from the stages of the slides, and how well models predict it.

The official rule of CAMELYON-17 (camelyon17.grand-challenge.org/Evaluation; a positive node has a
micro- or macrometastasis, isolated tumour cells alone are none):

    pN0       no metastasis, no isolated tumour cells
    pN0(i+)   isolated tumour cells only
    pN1mi     micrometastases, no macrometastasis
    pN1       1 to 3 positive nodes, at least one macrometastasis
    pN2       4 or more positive nodes (of five), at least one macrometastasis

The challenge's metric is Cohen's kappa with quadratic weights over these five.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score

from wsi_ncmi.evaluation import metrics, resampling
from wsi_ncmi.evaluation.bootstrap import Estimate
from wsi_ncmi.evaluation.metrics import Floats, Ints
from wsi_ncmi.evaluation.samples import Arm, ArmKey, Samples

SLIDE_STAGES: Final = ("negative", "itc", "micro", "macro")
PATIENT_STAGES: Final = ("pN0", "pN0(i+)", "pN1mi", "pN1", "pN2")
MOST_OF_PN1: Final = 3
BLOCK = 1000
COLUMNS = [
    *("aggregator", "objective", "patients", "fewest_slides", "most_slides"),
    *("value", "low", "high", "seed_sd", "accuracy"),
]


def patient_stages(stages: Ints, patient: Ints) -> Ints:
    """The pN stage of every patient `[P]`, an index into `PATIENT_STAGES`; −1: no slide is of it.

    Args:
        stages: of slides `[N]`, indices into `SLIDE_STAGES`.
        patient: of each slide `[N]`, 0 … P − 1.
    """
    counts = np.zeros((int(patient.max()) + 1, len(SLIDE_STAGES)), np.int64)
    np.add.at(counts, (patient, stages), 1)
    _, itc, micro, macro = counts.T
    many = macro + micro > MOST_OF_PN1
    found = np.select([(macro > 0) & many, macro > 0, micro > 0, itc > 0], [4, 3, 2, 1], default=0)
    found[counts.sum(axis=1) == 0] = -1
    return found


def has_stages(classes: Sequence[str], samples: Samples) -> bool:
    """Whether a task's samples are slides of the four stages, several of a patient."""
    if tuple(classes) != SLIDE_STAGES or not len(samples.target):
        return False
    return len(samples.target) / samples.n_repeats > samples.n_patients


def staging_table(
    samples: Samples,
    arms: Mapping[ArmKey, Arm],
    classes: Sequence[str],
    resamples: int,
    seed: int,
    confidence: float,
) -> pd.DataFrame:
    """Quadratic kappa and accuracy of the patient's stage, by arm; no rows for other tasks.

    The kappa is the mean over seeds (and repeats), its interval over resamples of patients, as for
    every metric. A patient counts where all its tested slides were scored; both its stages, the
    predicted and the true one, are of those slides.
    """
    if not has_stages(classes, samples):
        return pd.DataFrame(columns=COLUMNS)
    rows = []
    for key, arm in arms.items():
        passes = list(_passes(samples, arm))
        if not passes:
            continue
        kappas = [
            metrics.quadratic_kappa(true, said, len(PATIENT_STAGES)) for _, true, said in passes
        ]
        drawn = [
            _resampled(samples, patients, true, said, resamples, seed)
            for patients, true, said in passes
        ]
        estimate = Estimate(np.array(kappas), np.mean(drawn, axis=0))
        accuracy = np.mean([accuracy_score(true, said) for _, true, said in passes])
        bounds = estimate.value, *estimate.interval(confidence), estimate.seed_sd
        rows.append([*key, *_sizes(samples), *bounds, accuracy])
    return pd.DataFrame(rows, columns=COLUMNS)


def _passes(samples: Samples, arm: Arm) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Of every seed: its patients `[p]`, their true and their predicted stages `[p]`."""
    repeat = _repeat_of(samples)
    for row, (scored, predicted) in enumerate(zip(arm.scored, arm.predicted, strict=True)):
        own = repeat == arm.repeats[row]
        torn = np.unique(samples.patient[own & ~scored])
        used = scored & ~np.isin(samples.patient, torn)
        if not used.any():
            continue
        true = patient_stages(samples.target[used], samples.patient[used])
        said = patient_stages(predicted[used], samples.patient[used])
        patients = np.flatnonzero(true >= 0)
        yield patients, true[patients], said[patients]


def _repeat_of(samples: Samples) -> Ints:
    """Of which repeat each sample is `[N]`: they stand one after the other."""
    return np.repeat(np.arange(samples.n_repeats), len(samples.target) // samples.n_repeats)


def _resampled(
    samples: Samples, patients: Ints, true: Ints, said: Ints, resamples: int, seed: int
) -> Floats:
    """The kappa in every resample `[R]`; the draws are those of all other metrics."""
    found = []
    for _, weights in resampling.patient_weights(samples.n_patients, resamples, seed, BLOCK):
        counts = resampling.confusions(true, said, weights[patients], len(PATIENT_STAGES))
        found.append(resampling.quadratic_kappa(counts))
    return np.concatenate(found)


def _sizes(samples: Samples) -> tuple[int, int, int]:
    """Patients, and the fewest and most slides that one has."""
    slides = np.bincount(samples.patient[_repeat_of(samples) == 0])
    slides = slides[slides > 0]
    return len(slides), int(slides.min()), int(slides.max())
