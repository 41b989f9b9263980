"""CMI, Γ, NCMI and error rate of classifiers: trained runs of a task, and pretrained models."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax

from wsi_ncmi.errors import UserError
from wsi_ncmi.evaluation.information import information
from wsi_ncmi.evaluation.metrics import Ints
from wsi_ncmi.experiments import pretrained
from wsi_ncmi.experiments.results import TaskResults
from wsi_ncmi.extraction.encode import pick_device
from wsi_ncmi.machine import cpu_budget
from wsi_ncmi.predictions.records import OK, score_scales
from wsi_ncmi.report.wording import title
from wsi_ncmi.training.images import load_run

MILLION = 1e6
CPU = torch.device("cpu")
PLAIN = ("cmi", "gamma", "ncmi", "centroid_ncmi")
COLUMNS = (
    "data",
    "classifier",
    "network",
    "parameters",
    "images",
    "error",
    *PLAIN,
    "calibrated_ncmi",
    "validation_ncmi",
)


def trained(data: str, task: TaskResults) -> Iterator[dict[str, Any]]:
    """A row per run that was trained, columns `COLUMNS`.

    Args:
        data: the data set's name.

    Raises:
        UserError: scores were calibrated by more than a temperature, which cannot be taken back.
    """
    runs = task.runs.runs[task.runs.runs["status"] == OK]
    scales = score_scales(task.folder, runs)
    seeds = runs["seed"].nunique() > 1
    for run in runs.itertuples():
        run_id = str(run.run_id)
        if run_id not in scales:
            raise UserError(
                f"task {task.name}: run {run_id} is calibrated by more than a temperature: set "
                "training.calibration: temperature"
            )
        name = f"{task.name} {title(str(run.objective))}" + (f" seed {run.seed}" if seeds else "")
        encoder, objective, _ = load_run(task.folder / run_id, CPU)
        row: dict[str, Any] = {"data": data, "classifier": name, "network": task.name}
        row["parameters"] = _millions(encoder, objective)
        scores, target = task.runs.scored(run_id, "test")
        row |= measures(scores / scales[run_id], target)
        row["calibrated_ncmi"] = measures(scores, target)["ncmi"]
        row["validation_ncmi"] = _validation(task, run_id, scales[run_id])
        yield row


def _validation(task: TaskResults, run_id: str, scale: float) -> float:
    scores, target = task.runs.scored(run_id, "val")
    return float(measures(scores / scale, target)["ncmi"])


def published(
    models: Sequence[str], path: Path, weights: Path | None, batch_size: int
) -> Iterator[dict[str, Any]]:
    """A row per timm model on ImageNet's validation images; see `pretrained` for the arguments.

    Measures that need other images or a calibration are missing.
    """
    images, device = pretrained.imagenet_validation(path), pick_device()
    for name in models:
        module = pretrained.load_classifier(name, weights, device)
        log_p = pretrained.log_probabilities(module, images, device, batch_size, cpu_budget() - 1)
        row = {"data": "ImageNet", "classifier": name, "network": name.split(".")[0]}
        yield row | {"parameters": _millions(module)} | measures(log_p, images.targets)


def measures(scores: NDArray[np.floating], target: Ints) -> dict[str, Any]:
    """images, error and `PLAIN` of class log-odds [n, C] and targets [n]."""
    log_p = log_softmax(np.asarray(scores, np.float64), axis=1)
    found = information(log_p, target).measures
    error = float((scores.argmax(1) != target).mean())
    return {"images": len(target), "error": error, **{name: found[name] for name in PLAIN}}


def _millions(*modules: torch.nn.Module) -> float:
    return sum(p.numel() for module in modules for p in module.parameters()) / MILLION
