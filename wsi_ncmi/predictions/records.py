"""A run's identity and its records: predictions, curves, checkpoint; `run.json` comes last."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from wsi_ncmi.errors import UserError
from wsi_ncmi.files.atomic import atomic_path, write_json
from wsi_ncmi.files.frame import read_frame, write_frame
from wsi_ncmi.files.product import Product
from wsi_ncmi.files.table import DIGITS, write_table
from wsi_ncmi.predictions.states import TRAINED
from wsi_ncmi.provenance import digest

if TYPE_CHECKING:
    from torch import Tensor

SCORES = "scores"
RECORDS = ("checkpoint.pt", "curves.tsv", "predictions.parquet", "validation.npz")
OK, FAILED = "ok", "failed"
# What stands beside run.json: a model that diverged has neither weights nor predictions.
RECORDS_OF = {OK: RECORDS, FAILED: ("curves.tsv",)}
# And of one that was chosen among several settings: what became of each, and its validation curve.
SEARCH = ("search.tsv", "search_curves.tsv")
CURVES = ("epoch", "part", "loss", "macro_f1")

MANIFEST_COLUMNS = (
    "run_id",
    "task",
    "cohort",
    "encoder",
    "protocol",
    "repeat",
    "fold",
    "seed",
    "aggregator",
    "objective",
    "selection",
    "precision",
    "status",
    "state",
    "remedy",
    "epochs",
    "best_epoch",
    "failed_epoch",
    "reason",
    "seconds",
    "digest",
    "bags_digest",
)
# A run that failed has no best epoch, one that did not has no other.
BLANK_OR_NUMBER = ("best_epoch", "failed_epoch", "seconds")


AROUND = {"repeat", "among", "setting"}
"""Of a run, what is recorded and decides nothing about its model."""


@dataclass(frozen=True)
class Run:
    """One trained model: where it stands in a comparison, and all that decides its result.

    Attributes:
        settings: parts, their options, training settings, data and versions: the digest is theirs.
        precision: `fp32` or `bf16`, what `training.precision` came to on the device.
        bags_digest: of the bags it is trained and tested on ("" for images).
        repeat: of the partition that the fold is of; folds count through all repeats.
        among: the `model_digest` of every model among which this one is chosen by validation;
            empty: it is the only one.
        setting: `options` and `training` that a search overrides of its arm; empty: nothing.
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
    precision: str
    bags_digest: str
    settings: dict[str, Any]
    repeat: int = 0
    among: tuple[str, ...] = ()
    setting: dict[str, Any] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        return f"{self.aggregator}--{self.objective}--fold{self.fold}--seed{self.seed}"

    @property
    def digest(self) -> str:
        """Of all that decides what is recorded: of all candidates, whichever is chosen."""
        return digest(["nested", *self.among]) if self.among else self.model_digest

    @property
    def model_digest(self) -> str:
        """Of all that decides the model. The repeat follows from the fold."""
        return digest({k: v for k, v in asdict(self).items() if k not in AROUND})


@dataclass(frozen=True)
class ScoredPart:
    """A part's samples with their scores.

    Attributes:
        identity: sample_id, patient_id and centre per sample.
        targets: [n] int64. scores: [n, C] float32 class log-odds.
    """

    part: str
    identity: pd.DataFrame
    targets: "Tensor"
    scores: "Tensor"


class Training(Protocol):
    """What is recorded of a training that failed: epochs count from 0, −1 is before the first."""

    curves: list[dict[str, Any]]
    epochs: int
    epoch: int


def product_of(run: Run, folder: Path) -> Product:
    """The run's records in a folder: current if they are whole and of these very settings.

    A run that failed is a result like any other: the same settings would fail again.
    """
    return Product(run.digest, folder / "run.json", stated_digest)


def stated_digest(path: Path) -> str:
    """The digest in a `run.json`; "" for a damaged one, or where a record beside it is missing."""
    try:
        record = json.loads(path.read_text())
        names = [*RECORDS_OF[record["status"]], *(SEARCH if record.get("among") else ())]
        beside = [path.parent / name for name in names]
        return str(record["digest"]) if all(other.is_file() for other in beside) else ""
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        return ""


def reopen(folder: Path) -> None:
    """Before a run's first record is written: what an earlier `run.json` says is no longer so."""
    (folder / "run.json").unlink(missing_ok=True)


def write_predictions(
    path: Path, run: Run, parts: Sequence[ScoredPart], epoch: int, classes: Sequence[str]
) -> None:
    """`predictions.parquet`: one row per sample and part, the classes' order in its metadata."""
    scores = [part.scores.float().cpu().numpy() for part in parts]
    given = zip(parts, scores, strict=True)
    frame = pd.concat([_frame(run, part, own, epoch) for part, own in given], ignore_index=True)
    write_predictions_table(path, predictions_table(frame, np.concatenate(scores), classes))


def write_predictions_table(path: Path, table: pa.Table) -> None:
    """Write a table of predictions: float bytes apart compress, names repeat, scores never do."""
    names = [name for name in table.column_names if name != SCORES]
    with atomic_path(path) as temporary:
        pq.write_table(
            table,
            temporary,
            compression="zstd",
            use_dictionary=names,
            use_byte_stream_split=[f"{SCORES}.list.element"],
        )


def no_predictions(classes: Sequence[str]) -> pa.Table:
    """The predictions of no model: a table without a row."""
    identity = pd.DataFrame(columns=["sample_id", "patient_id", "centre"], dtype=str)
    none = identity.assign(run_id="", part="", epoch=0, target=0, predicted=0, calibrated=True)
    return predictions_table(none, np.empty((0, len(classes)), np.float32), classes)


def predictions_table(
    frame: pd.DataFrame, scores: NDArray[np.float32], classes: Sequence[str]
) -> pa.Table:
    """The rows of `frame` with their scores [n, C], which are not copied."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    ends = np.arange(len(scores) + 1, dtype=np.int32) * scores.shape[1]
    lists = pa.ListArray.from_arrays(pa.array(ends), pa.array(scores.reshape(-1)))
    table = table.add_column(table.column_names.index("calibrated"), SCORES, lists)
    metadata = {**(table.schema.metadata or {}), b"classes": json.dumps(list(classes)).encode()}
    return table.replace_schema_metadata(metadata)


def _frame(run: Run, part: ScoredPart, scores: NDArray[np.float32], epoch: int) -> pd.DataFrame:
    return part.identity.assign(
        run_id=run.run_id,
        part=part.part,
        epoch=epoch,
        target=part.targets.cpu().numpy(),
        predicted=scores.argmax(1),
        calibrated=True,
    )


def write_curves(path: Path, curves: Sequence[dict[str, Any]]) -> None:
    """`curves.tsv`: one row per epoch and part; a header alone if no epoch was trained whole."""
    frame = pd.DataFrame(curves) if curves else pd.DataFrame(columns=list(CURVES))
    write_frame(path, frame, DIGITS)


def read_curves(path: Path) -> pd.DataFrame:
    """A run's learning curves; blank cells are NaN."""
    frame = read_frame(path)
    numbers = [name for name in frame if name != "part"]
    return frame.assign(**{name: pd.to_numeric(frame[name]) for name in numbers})


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """States and the configuration that rebuilds their modules; readable with weights_only."""
    import torch  # who reads records need not wait for it

    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def finish(
    folder: Path,
    run: Run,
    *,
    best_epoch: int,
    epochs: int,
    score_scale: float | None,
    seconds: float,
    state: str = TRAINED,
    remedy: str = "",
) -> None:
    """`run.json`, last: from now on the run is done.

    Args:
        score_scale: by which scores were multiplied, one by the fitted temperature; None where more
            than a temperature was fitted.
        state: see `states`. remedy: what to change, of a run that is not `trained`.
    """
    found = {"state": state, "remedy": remedy, "epochs": epochs, "best_epoch": best_epoch}
    found |= {"score_scale": score_scale}
    _write_record(folder, run, OK, seconds, **found)


def fail(folder: Path, run: Run, training: Training, reason: str, seconds: float) -> None:
    """The records of a run that diverged; no weights or predictions of an earlier run are left."""
    reopen(folder)
    for name in RECORDS:
        (folder / name).unlink(missing_ok=True)
    write_curves(folder / "curves.tsv", training.curves)
    at = {"failed_epoch": training.epoch, "reason": reason}
    _write_record(folder, run, FAILED, seconds, epochs=training.epochs, **at)


def _write_record(folder: Path, run: Run, status: str, seconds: float, **found: Any) -> None:
    blank = {"state": "", "remedy": "", "best_epoch": None, "failed_epoch": None, "reason": ""}
    record = {"run_id": run.run_id, "digest": run.digest, "status": status, **blank, **found}
    write_json(folder / "run.json", {**record, "seconds": round(seconds, 2), **asdict(run)})


def write_manifest(path: Path, folders: Sequence[Path]) -> None:
    """The manifest of a seed's runs in their order: the report compares the first arms first."""
    found = (json.loads((folder / "run.json").read_text()) for folder in folders)
    records = [{"repeat": 0, **record} for record in found]  # earlier versions had no repeats
    write_table(path, MANIFEST_COLUMNS, [[r[name] for name in MANIFEST_COLUMNS] for r in records])


def stated_classes(path: Path) -> list[str]:
    """The classes in a `run.json`, in their order."""
    return [str(name) for name in json.loads(path.read_text())["settings"]["classes"]]


def arm_settings(task_dir: Path, runs: pd.DataFrame) -> list[dict[str, Any]]:
    """What each arm was trained with, by its first run's `run.json`; arms without one are left out.

    Of every arm: aggregator, objective, selection (which epoch is scored), options (of the
    objective), training (all of its settings), searched (keys of these that a nested search chose
    for each run anew).

    Args:
        runs: a row per run: run_id, aggregator, objective.
    """
    found = []
    for row in runs.drop_duplicates(["aggregator", "objective"]).itertuples():
        path = task_dir / row.run_id / "run.json"
        if not path.is_file():
            continue
        run = json.loads(path.read_text())
        settings = run.get("settings", {})
        if "training" not in settings:
            continue
        arm = {"aggregator": row.aggregator, "objective": row.objective}
        arm |= {"selection": settings["training"]["selection"]}
        arm |= {"searched": [*run.get("setting", {}).get("training", {})]}
        options = settings["objective"]["options"]
        found.append({**arm, "options": options, "training": settings["training"]})
    return found


def arm_streams(task_dir: Path, runs: pd.DataFrame) -> dict[tuple[str, str], str]:
    """The random stream of each arm (aggregator, objective), "" for that of all paired arms.

    Args:
        runs: a row per run: run_id, aggregator, objective.
    """
    found = {}
    for row in runs.drop_duplicates(["aggregator", "objective"]).itertuples():
        path = task_dir / row.run_id / "run.json"
        settings = json.loads(path.read_text()).get("settings", {}) if path.is_file() else {}
        stream = settings.get("objective", {}).get("stream") or ""
        found[row.aggregator, row.objective] = str(stream)
    return found


def score_scales(task_dir: Path, runs: pd.DataFrame) -> dict[str, float]:
    """run_id -> by which the model's scores were multiplied; runs that do not say are left out.

    Args:
        runs: a row per run: run_id.
    """
    found = {}
    for run_id in runs["run_id"]:
        path = task_dir / run_id / "run.json"
        record = json.loads(path.read_text()) if path.is_file() else {}
        if record.get("score_scale") is not None:
            found[run_id] = float(record["score_scale"])
    return found


def read_manifest(path: Path) -> pd.DataFrame:
    """The runs of a seed's manifest in their order; `repeat` is 0 where none is recorded.

    Raises:
        UserError: it was written by an earlier version, which recorded less.
    """
    whole = dict.fromkeys(("fold", "seed", "epochs"), int)
    found = read_frame(path, {**whole, **dict.fromkeys(BLANK_OR_NUMBER, float)})
    found["repeat"] = found["repeat"].astype(int) if "repeat" in found else 0
    missing = [name for name in MANIFEST_COLUMNS if name not in found]
    if missing:
        raise UserError(f"{path}: no column {', '.join(missing)}: rerun the task's training")
    return found
