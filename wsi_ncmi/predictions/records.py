"""A run's identity and its records: predictions, curves, checkpoint; `run.json` comes last."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from wsi_ncmi.files.atomic import atomic_path, write_json
from wsi_ncmi.files.frame import read_frame, write_frame
from wsi_ncmi.files.product import Product
from wsi_ncmi.files.table import DIGITS, write_table
from wsi_ncmi.provenance import digest

RECORDS = ("checkpoint.pt", "curves.tsv", "predictions.parquet")

MANIFEST_COLUMNS = (
    "run_id",
    "task",
    "cohort",
    "encoder",
    "protocol",
    "fold",
    "seed",
    "aggregator",
    "objective",
    "selection",
    "epochs",
    "best_epoch",
    "seconds",
    "digest",
    "bags_digest",
)


@dataclass(frozen=True)
class Run:
    """One trained model: where it stands in a comparison, and all that decides its result.

    Attributes:
        settings: parts, their options, training settings, data and versions: the digest is theirs.
        bags_digest: of the bags it is trained and tested on ("" for images).
    """

    task: str
    cohort: str
    encoder: str
    protocol: str
    fold: int
    seed: int
    aggregator: str
    objective: str
    selection: str
    bags_digest: str
    settings: dict[str, Any]

    @property
    def run_id(self) -> str:
        return f"{self.aggregator}--{self.objective}--fold{self.fold}--seed{self.seed}"

    @property
    def digest(self) -> str:
        return digest(asdict(self))


@dataclass(frozen=True)
class ScoredPart:
    """A part's samples with their scores.

    Attributes:
        identity: sample_id, patient_id and centre per sample.
        targets: [n] int64. scores: [n, C] float32 class log-odds.
    """

    part: str
    identity: pd.DataFrame
    targets: Tensor
    scores: Tensor


def product_of(run: Run, folder: Path) -> Product:
    """The run's records in a folder: current if they are whole and of these very settings."""
    beside = [folder / name for name in RECORDS]
    return Product(run.digest, folder / "run.json", stated_digest, beside)


def stated_digest(path: Path) -> str:
    """The digest in a `run.json`; "" for a damaged one."""
    try:
        return str(json.loads(path.read_text())["digest"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return ""


def write_predictions(
    path: Path, run: Run, parts: Sequence[ScoredPart], epoch: int, classes: Sequence[str]
) -> None:
    """`predictions.parquet`: one row per sample and part, the classes' order in its metadata."""
    frames = [_frame(run, part, epoch) for part in parts]
    table = pa.Table.from_pandas(pd.concat(frames, ignore_index=True), preserve_index=False)
    metadata = {**(table.schema.metadata or {}), b"classes": json.dumps(list(classes)).encode()}
    with atomic_path(path) as temporary:
        pq.write_table(table.replace_schema_metadata(metadata), temporary)


def _frame(run: Run, part: ScoredPart, epoch: int) -> pd.DataFrame:
    scores = part.scores.float().cpu().numpy()
    return part.identity.assign(
        run_id=run.run_id,
        part=part.part,
        epoch=epoch,
        target=part.targets.cpu().numpy(),
        predicted=scores.argmax(1),
        scores=list(scores.astype(np.float32)),
        calibrated=True,
    )


def write_curves(path: Path, curves: Sequence[dict[str, Any]]) -> None:
    """`curves.tsv`: one row per epoch and part."""
    write_frame(path, pd.DataFrame(curves), DIGITS)


def read_curves(path: Path) -> pd.DataFrame:
    """A run's learning curves; blank cells are NaN."""
    frame = read_frame(path)
    numbers = [name for name in frame if name != "part"]
    return frame.assign(**{name: pd.to_numeric(frame[name]) for name in numbers})


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """States and the configuration that rebuilds their modules; readable with weights_only."""
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def finish(folder: Path, run: Run, *, best_epoch: int, epochs: int, seconds: float) -> None:
    """`run.json`, last: from now on the run is done."""
    record = {
        "run_id": run.run_id,
        "digest": run.digest,
        "epochs": epochs,
        "best_epoch": best_epoch,
        "seconds": round(seconds, 2),
        **asdict(run),
    }
    write_json(folder / "run.json", record)


def write_manifest(path: Path, folders: Sequence[Path]) -> None:
    """The manifest of a seed's runs in their order: the report compares the first arms first."""
    records = [json.loads((folder / "run.json").read_text()) for folder in folders]
    write_table(path, MANIFEST_COLUMNS, [[r[name] for name in MANIFEST_COLUMNS] for r in records])


def read_manifest(path: Path) -> pd.DataFrame:
    """The runs of a seed's manifest in their order."""
    whole = dict.fromkeys(("fold", "seed", "epochs", "best_epoch"), int)
    return read_frame(path, {**whole, "seconds": float})
