"""Scores of made models on two cohorts, as the tidy tables of `evaluation.scores`."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from wsi_ncmi.evaluation.differences import Rules
from wsi_ncmi.evaluation.external import Asked
from wsi_ncmi.evaluation.primary import HIERARCHICAL

CLASSES = ["a", "b", "c"]
KEY = ("abmil", "cross_entropy")


@dataclass(frozen=True)
class Made:
    """What is drawn: `shift` makes outside harder, `seed_sd` trainings differ.

    Attributes:
        slides: of each patient, which share most of their difficulty.
    """

    inside: int = 60
    outside: int = 60
    shift: float = 0.0
    seed_sd: float = 0.3
    seeds: int = 3
    folds: int = 4
    slides: int = 1

    def tables(self, rng: np.random.Generator, key=KEY) -> tuple[pd.DataFrame, pd.DataFrame]:
        """(external, inner)."""
        trained = rng.normal(0, self.seed_sd, (self.seeds, self.folds))
        inner = self._cohort(rng, "p", self.inside, 0.0, trained, key)
        own = inner["patient_id"].str[1:].astype(int) % self.folds == inner["fold"]
        outside = self._cohort(rng, "q", self.outside, self.shift, trained, key)
        return outside, inner[own].reset_index(drop=True)

    def _cohort(self, rng, name, patients, shift, trained, key) -> pd.DataFrame:
        """Every sample by every model."""
        n = patients * self.slides
        patient = np.repeat(np.arange(patients), self.slides)
        target = rng.integers(0, len(CLASSES), patients)[patient]
        ease = rng.normal(1 - shift, 1, patients)[patient] + rng.normal(0, 0.3, n)
        frames = []
        for seed, fold in np.ndindex(trained.shape):
            scores = rng.normal(0, 0.5, (n, len(CLASSES)))
            scores[np.arange(n), target] += ease + trained[seed, fold]
            frame = pd.DataFrame(scores.astype(np.float32), columns=[f"score_{c}" for c in CLASSES])
            frames.append(
                frame.assign(
                    task="t",
                    encoder="e",
                    repeat=0,
                    fold=fold,
                    seed=seed,
                    stream="",
                    aggregator=key[0],
                    objective=key[1],
                    sample_id=[f"{name}{i:04d}" for i in range(n)],
                    patient_id=[f"{name}{p:03d}" for p in patient],
                    centre=name,
                    target=target,
                    predicted=scores.argmax(1),
                    run_id=f"{key[1]}-f{fold}-s{seed}",
                )
            )
        return pd.concat(frames, ignore_index=True)


def asked(resamples: int = 300, seed: int = 0) -> Asked:
    """The default evaluation."""
    rules = Rules(HIERARCHICAL, 0.01, "task", [], 0.95)
    return Asked(CLASSES, KEY[1], rules, resamples, seed)


def cells(table: pd.DataFrame) -> dict:
    """Every arm's models, all of them trained."""
    arms = table.groupby(["aggregator", "objective"], sort=False)
    return {
        key: dict.fromkeys(zip(own["fold"], own["seed"], strict=True), True) for key, own in arms
    }
