"""Made bags of the two sizes that MIL meets, packed as training reads them, and models on them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wsi_ncmi.bags.cache import BagCache
from wsi_ncmi.bags.packing import SourceBag, write_cache
from wsi_ncmi.config import Arm, Part, Task, Training
from wsi_ncmi.predictions.records import Run
from wsi_ncmi.training.bags import Sample
from wsi_ncmi.training.execute import Setup
from wsi_ncmi.training.mil import prepare


@dataclass(frozen=True)
class Case:
    """A cohort of bags.

    Attributes:
        sizes: instances of each training bag.
        dim: D.
        batch_size: bags a step.
        options: of each aggregator; the parts' own where one is not named.
    """

    name: str
    sizes: tuple[int, ...]
    dim: int
    batch_size: int
    classes: int
    options: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def validation(self) -> int:
        """Bags of validation: the first tenth of the training bags' sizes, drawn anew."""
        return max(self.classes, len(self.sizes) // 10)


def lognormal(bags: int, median: float, sigma: float) -> tuple[int, ...]:
    """Sizes of bags, the same at every call."""
    normal = np.random.default_rng(0).normal(size=bags)
    return tuple(np.maximum(1, np.round(median * np.exp(sigma * normal))).astype(int).tolist())


def cases(quick: bool) -> dict[str, Case]:
    """Region features of HIPT, 16 bags a step; patch features of TRIDENT, one bag a step.

    The spread of the sizes is that of 2,800 real HIPT bags of the TCGA: at 16 bags a step, padding
    makes 2.4 rows of an instance.
    """
    narrow = {"hidden_dim": 128, "attention_dim": 64}
    wide = {"hidden_dim": 512, "attention_dim": 128}
    small = lognormal(64 if quick else 1102, 36, 0.55)
    large = (300,) * 3 if quick else (13_000,) * 3
    return {
        "hipt": Case("hipt", small, 192, 16, 6, {"abmil": narrow, "clam_mb": narrow}),
        "trident": Case("trident", large, 1024, 1, 2, {"abmil": wide}),
    }


def mixed_case(quick: bool) -> Case:
    """One large bag among fifteen small ones, all in one step."""
    sizes = (2_000,) + (50,) * 15 if quick else (40_000,) + (500,) * 15
    return Case("mixed", sizes, 1024, 16, 2, {"abmil": {"hidden_dim": 512, "attention_dim": 128}})


class Made:
    """A case's bags as a source that can be packed: noise, float16, the classes in turn."""

    dtype = np.dtype(np.float16)
    copies, foreign = 0, True

    def __init__(self, case: Case) -> None:
        self.case, self.dim = case, case.dim

    def bags(self) -> Iterator[SourceBag]:
        rng = np.random.default_rng(1)
        for sample in (s for part in parts(self.case).values() for s in part):
            rows = self.case.sizes[int(sample.sample_id[-5:]) % len(self.case.sizes)]
            features = rng.normal(size=(rows, self.dim)).astype(np.float16)
            features[:, sample.target] += np.float16(0.3)
            coords = np.zeros((rows, 2), np.int32)
            yield SourceBag(sample.sample_id, "ok", "", sample.sample_id, features, coords)


def parts(case: Case) -> dict[str, list[Sample]]:
    """Samples of training and validation; nothing is tested here."""

    def samples(part: str, count: int) -> list[Sample]:
        names = [f"{part}-{i:05d}" for i in range(count)]
        return [Sample(n, (n,), n, "", i % case.classes) for i, n in enumerate(names)]

    return {"train": samples("train", len(case.sizes)), "val": samples("val", case.validation)}


def write(case: Case, folder: Path) -> int:
    """Pack a case's bags; returns the bytes of their features."""
    folder.mkdir(parents=True)
    write_cache(Made(case), folder)
    return (folder / "features.npy").stat().st_size


@dataclass(frozen=True)
class Work:
    """Models to be trained on a case's bags.

    Attributes:
        folder: of the packed bags.
        arms, streams: models are arms × streams: arms of a stream differ in their learning rate,
            see the same bags in the same order and share start and dropout.
        steps: an epoch has at most.
        objective: a part's name.
        precision: of `training`.
    """

    case: Case
    folder: Path
    aggregator: str
    arms: int
    streams: int
    steps: int
    objective: str = "cross_entropy"
    precision: str = "fp32"
    device: str = "cpu"

    @property
    def models(self) -> int:
        """K."""
        return self.arms * self.streams

    def setups(self, count: int | None = None, first: int = 0) -> list[Setup]:
        """Models from the `first` on, ready to be trained: stream by stream, arm by arm."""
        return [self.setup(i) for i in range(first, first + (count or self.models))]

    def setup(self, number: int) -> Setup:
        """One of the models."""
        stream, arm = divmod(number, self.arms)
        label = f"arm{arm}"
        task = _task(self)
        run = Run(
            task="mil",
            cohort="made",
            encoder="none",
            protocol="none",
            fold=0,
            seed=stream,
            aggregator=self.aggregator,
            objective=label,
            selection="last",
            precision=self.precision,
            bags_digest="",
            settings={},
        )
        cache, device = _cache(self.folder), torch.device(self.device)
        return prepare(run, task, cache, _short(self), device)


def _short(work: Work) -> dict[str, list[Sample]]:
    """The samples of as many steps as are asked for."""
    found = parts(work.case)
    return {**found, "train": found["train"][: work.steps * work.case.batch_size]}


@cache
def _cache(folder: Path) -> BagCache:
    return BagCache(folder)


def _task(work: Work) -> Task:
    arms = {
        f"arm{i}": Arm(part=work.objective, training={"learning_rate": 1e-4 * (1 + i)})
        for i in range(work.arms)
    }
    return Task(
        classes=[str(c) for c in range(work.case.classes)],
        aggregators={work.aggregator: Part(options=work.case.options.get(work.aggregator, {}))},
        objectives=arms,
        reference="arm0",
        training=Training(epochs=1000, batch_size=work.case.batch_size, precision=work.precision),
    )
