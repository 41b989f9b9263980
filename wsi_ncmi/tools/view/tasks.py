"""A task for the page: its arms, and what each of them made of the slides that it was tested on."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.special import softmax

from wsi_ncmi.errors import UserError
from wsi_ncmi.evaluation.metrics import MACRO_F1
from wsi_ncmi.files.frame import read_frame
from wsi_ncmi.predictions.attention import attention_path, read_attention
from wsi_ncmi.predictions.read import class_names, read_manifests, read_parquet, scores_of
from wsi_ncmi.predictions.records import OK, stated_classes
from wsi_ncmi.predictions.splits import read_splits
from wsi_ncmi.report.wording import arm_title
from wsi_ncmi.tools.view.remembered import remembered
from wsi_ncmi.tools.view.source import Json

Arm = tuple[str, str]


class TaskView:
    """A task of a results folder: the seeds whose training is finished.

    Args:
        folder: `runs/<task>`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, folder.name

    def described(self) -> Json:
        """The task's entry in the overview."""
        summary = _read_json(self.folder / "evaluation" / "summary.json")
        attending = self._attending()
        arms = [self._arm(arm, arm in attending) for arm in self.arms]
        first = next((arm for arm in arms if arm["has_attention"]), arms[0] if arms else None)
        return {
            "name": self.name,
            "classes": self.classes,
            "ordinal": bool(summary.get("ordinal", False)),
            "arms": arms,
            "default_arm": first["id"] if first else None,
        }

    @property
    def runs(self) -> pd.DataFrame:
        """The rows of the manifests of all finished seeds."""
        manifests = sorted(self.folder.glob("seed-*.tsv"))
        found: pd.DataFrame = remembered(("runs", self.folder), manifests, lambda: _runs(manifests))
        return found

    @property
    def arms(self) -> list[Arm]:
        """Aggregator and objective of every arm, in the manifests' order."""
        pairs = zip(self.runs["aggregator"], self.runs["objective"], strict=True)
        return list(dict.fromkeys(pairs))

    @property
    def splits(self) -> pd.DataFrame:
        """The task's splits."""
        path = self.folder / "splits.tsv"
        found: pd.DataFrame = remembered(("splits", self.folder), [path], lambda: read_splits(path))
        return found

    @property
    def labels(self) -> dict[str, str]:
        """slide_id -> class."""
        rows = self.splits.drop_duplicates("slide_id")
        return dict(zip(rows["slide_id"], rows["label"], strict=True))

    @property
    def classes(self) -> list[str]:
        """In their order; before anything is trained, those of the splits by name."""
        for run_id in self.runs["run_id"]:
            path = self.folder / run_id / "run.json"
            if path.is_file():
                return stated_classes(path)
        return sorted(self.splits["label"].unique())

    def attention(self, slide_id: str) -> Path:
        """Where a slide's attention is, or would be."""
        return attention_path(self._weights, slide_id)

    @property
    def _weights(self) -> Path:
        return self.folder / "attention" / "weights"

    def _attended(self) -> set[str]:
        """Ids of the slides whose attention is there."""
        return {path.stem for path in self._weights.glob("*.h5")}

    def predictions(self, arm: str) -> Json | None:
        """What an arm makes of the slides on which it was tested: means over seeds and repeats."""
        key = next((one for one in self.arms if "/".join(one) == arm), None)
        if key is None:
            return None
        manifests = self.folder.glob("seed-*.tsv")
        files = [*manifests, self._aurocs, self.folder / "splits.tsv", self._weights]
        found: Json = remembered(("arm", self.folder, key), files, lambda: self._predictions(key))
        return found

    def _predictions(self, arm: Arm) -> Json:
        runs = self.runs
        own = runs[(runs["aggregator"] == arm[0]) & (runs["objective"] == arm[1])]
        run_ids = own.loc[own["status"] == OK, "run_id"]
        classes, tested = _tested([self.folder / run_id for run_id in run_ids], self.classes)
        aurocs = self._lesion_aurocs(arm)
        attended = self._attended() if arm in self._attending() else set()
        slides = {
            slide_id: _judged(tested[sample_id], classes, label)
            | {"attention_auroc": aurocs.get(slide_id), "attention": slide_id in attended}
            for slide_id, sample_id, label in self._slides()
            if sample_id in tested
        }
        return {"arm": "/".join(arm), "classes": classes, "slides": slides}

    def _slides(self) -> Iterable[tuple[str, str, str]]:
        rows = self.splits.drop_duplicates("slide_id")
        return zip(rows["slide_id"], rows["sample_id"], rows["label"], strict=True)

    @property
    def _aurocs(self) -> Path:
        return self.folder / "attention" / "lesion_auroc.tsv"

    def _lesion_aurocs(self, arm: Arm) -> dict[str, float]:
        """slide_id -> AUROC of attention for lesion tiles, where there is one."""
        if not self._aurocs.is_file():
            return {}
        rows = read_frame(self._aurocs, {"auroc": float})
        own = rows[(rows["aggregator"] == arm[0]) & (rows["objective"] == arm[1])]
        found = zip(own["slide_id"], own["auroc"].tolist(), strict=True)
        return {slide_id: value for slide_id, value in found if math.isfinite(value)}

    def _attending(self) -> set[Arm]:
        """The arms whose attention is there, by the first slide's file."""
        first = min(self._weights.glob("*.h5"), default=None)
        if first is None:
            return set()
        arms: Iterable[str] = remembered(
            ("attending", self.folder), [first], lambda: list(read_attention(first).weights)
        )
        return {(a, o) for a, _, o in (arm.partition("/") for arm in arms)}

    def _arm(self, arm: Arm, attends: bool) -> Json:
        return {
            "id": "/".join(arm),
            "title": arm_title(*arm),
            "has_attention": attends,
            "summary": self._summary(arm),
        }

    def _summary(self, arm: Arm) -> Json | None:
        """Macro-F1 with its interval, if the task was evaluated."""
        path = self.folder / "evaluation" / "metrics.tsv"
        if not path.is_file():
            return None
        rows = read_frame(path, {"value": float, "low": float, "high": float})
        own = (rows["aggregator"] == arm[0]) & (rows["objective"] == arm[1])
        found = rows[own & (rows["metric"] == MACRO_F1)]
        if found.empty:
            return None
        return {MACRO_F1: float(found["value"].iloc[0])}


def _runs(manifests: Sequence[Path]) -> pd.DataFrame:
    if manifests:
        return read_manifests(manifests)
    return pd.DataFrame(columns=["run_id", "aggregator", "objective", "status"])


def _tested(
    folders: Iterable[Path], classes: Sequence[str]
) -> tuple[list[str], dict[str, NDArray[np.float64]]]:
    """Classes, and of each test sample its mean probabilities [C]."""
    found: dict[str, list[NDArray[np.float64]]] = {}
    names = list(classes)
    for folder in folders:
        table = read_parquet(folder / "predictions.parquet")
        names = class_names(table)
        rows = table.filter(pc.equal(table["part"], "test"))
        probabilities = softmax(scores_of(rows).astype(np.float64), axis=1)
        for sample_id, own in zip(rows["sample_id"].to_pylist(), probabilities, strict=True):
            found.setdefault(str(sample_id), []).append(own)
    return names, {sample_id: np.mean(each, axis=0) for sample_id, each in found.items()}


def _judged(probabilities: NDArray[np.float64], classes: Sequence[str], label: str) -> Json:
    predicted = classes[int(probabilities.argmax())]
    return {
        "predicted": predicted,
        "probabilities": [round(float(p), 6) for p in probabilities],
        "correct": predicted == label if label in classes else None,
        "part": "test",
        "prediction_set": None,
        "unusual": [],
    }


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    return found
