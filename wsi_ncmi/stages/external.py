"""Stage `external`: a labelled second cohort, scored by every trained model of a task and judged.

Nothing here decides anything about a model: it was trained, and its epoch and calibration chosen,
before. Scores are kept under a digest of all that decides them, so that other statistics score
nothing anew.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from wsi_ncmi import config
from wsi_ncmi.bags.cache import INDEX, BagCache, bags_digest
from wsi_ncmi.bags.splits import samples as samples_in_sheet
from wsi_ncmi.bags.twins import shared_bags
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.errors import BagError, some
from wsi_ncmi.evaluation import metrics
from wsi_ncmi.evaluation.coverage import coverage_table
from wsi_ncmi.evaluation.differences import Rules
from wsi_ncmi.evaluation.external import Asked, calibration_table, external_tables
from wsi_ncmi.evaluation.primary import HIERARCHICAL
from wsi_ncmi.evaluation.samples import ArmKey
from wsi_ncmi.evaluation.scores import score_table
from wsi_ncmi.extraction.encode import pick_device
from wsi_ncmi.files.atomic import atomic_path, write_json
from wsi_ncmi.files.frame import read_frame, write_frame
from wsi_ncmi.files.product import Product
from wsi_ncmi.files.table import DIGITS
from wsi_ncmi.predictions.conformal import CrossConformal, Validated
from wsi_ncmi.predictions.outside import stated_digest, write_outside
from wsi_ncmi.predictions.read import TaskRuns, read_task, scores_of
from wsi_ncmi.predictions.records import OK, arm_streams, score_scales
from wsi_ncmi.provenance import STAGE_VERSIONS, digest
from wsi_ncmi.report.side_by_side import side_by_side
from wsi_ncmi.training.bags import Sample, samples_of
from wsi_ncmi.training.outside import score_outside

log = logging.getLogger(__name__)

COVERAGE = 0.9
"""Of the prediction sets whose coverage is measured; `predict` has the same default."""
FEW_PATIENTS = 10
"""Of a class, below which the report says that they are few."""


@dataclass(frozen=True)
class Place:
    """A cohort's bags.

    Attributes:
        cache: folder of the packed bags.
        tiles: folder of the tiles' manifests; None: the bags exist already.
    """

    cache: Path
    tiles: Path | None = None


def run(
    name: str,
    task: config.Task,
    rows: Sequence[SlideRow],
    place: Place,
    own: Place,
    task_dir: Path,
    manifests: Sequence[Path],
    evaluation: config.Evaluation,
    reference: str,
    out_dir: Path,
    *,
    ordinal: bool = False,
) -> None:
    """Score and judge.

    Args:
        name: of the second cohort.
        task: its classes, merge_classes and sample are read.
        rows: of the second cohort's sheet.
        place, own: the bags of the second cohort, and of that which was trained on.
        task_dir, manifests, evaluation, reference, ordinal: as of the stage `evaluate`.
        out_dir: what is written: predictions.parquet, the tables of `evaluation.external`,
            calibration.tsv, coverage.tsv, external.png, missing.tsv, and last summary.json.

    Raises:
        UserError: runs are missing.
        BagError: the cohorts share a slide, the second has no bag at all, or its bags are of
            another encoder.
    """
    runs = read_task(task_dir, manifests, own.cache / INDEX)
    cache = BagCache(place.cache, resident=False)
    _refuse_shared(name, own, place, cache)
    slides = samples_in_sheet(rows, task)
    kept = slides[slides["slide_id"].map(cache.has)]
    if kept.empty:
        reasons = [f"{s}: {cache.reason(s)}" for s in slides["slide_id"]]
        raise BagError(f"external cohort {name}: no slide of the task has a bag ({some(reasons)})")
    samples = samples_of(kept, task.classes)
    scores = _scores(runs, samples, kept, place, cache, task_dir, out_dir)
    external, inner = (_table(runs, table, task_dir) for table in (_frame(runs, scores), runs.test))
    asked = _asked(task, evaluation, reference, ordinal)
    written = external_tables(external, inner, runs.cells, asked)
    written["calibration"] = calibration_table(
        external, inner, runs.arms, score_scales(task_dir, runs.runs), runs.classes
    )
    written["coverage"] = _coverage(runs, samples, scores, evaluation.confidence)
    written["missing"] = _missing(slides, cache)
    for table_name, table in written.items():
        write_frame(out_dir / f"{table_name}.tsv", table, DIGITS)
    with atomic_path(out_dir / "external.png") as temporary:
        temporary.write_bytes(side_by_side(written["gap"], evaluation.confidence))
    summary = _summary(name, task, samples, kept, runs, own, evaluation)
    write_json(out_dir / "summary.json", {**summary, "missing": len(written["missing"])})


def _asked(
    task: config.Task, evaluation: config.Evaluation, reference: str, ordinal: bool
) -> Asked:
    """Always the hierarchical bootstrap: folds' models share all samples, so that blocks of folds
    would say nothing of other patients."""
    family, margin = evaluation.family, evaluation.equivalence_margin
    given = margin, family.by, family.objectives, evaluation.confidence
    rules = Rules(HIERARCHICAL, *given)
    drawn = evaluation.bootstrap, evaluation.seed
    return Asked(task.classes, reference, rules, *drawn, ordinal)


def _refuse_shared(name: str, own: Place, place: Place, cache: BagCache) -> None:
    """By what bags and slides hold: names may coincide by chance, these do not."""
    shared = shared_bags(BagCache(own.cache, resident=False), cache)
    inside, outside = (_fingerprints(one.tiles) for one in (own, place))
    both = inside.keys() & outside.keys()
    # Slides without tissue may be the same pixels: they have no bag and are not scored.
    shared += [(inside[key], outside[key]) for key in both if cache.has(outside[key])]
    if shared:
        pairs = sorted({f"{ours} and {theirs} there" for ours, theirs in shared})
        raise BagError(
            f"external cohort {name}: {len(pairs)} of its slides are slides of the cohort itself "
            f"({some(pairs)}): what was trained on validates nothing; take them out of one sheet"
        )


def _fingerprints(tiles: Path | None) -> dict[str, str]:
    """Fingerprint of a slide's file -> slide_id."""
    found: dict[str, str] = {}
    for manifest in sorted(tiles.glob("bucket-*.tsv")) if tiles else ():
        table = read_frame(manifest)
        found |= dict(zip(table["fingerprint"], table["slide_id"], strict=True))
    found.pop("", None)
    return found


def _trained(runs: TaskRuns) -> pd.DataFrame:
    return runs.runs[runs.runs["status"] == OK]


def _scores(
    runs: TaskRuns,
    samples: Sequence[Sample],
    slides: pd.DataFrame,
    place: Place,
    cache: BagCache,
    task_dir: Path,
    out_dir: Path,
) -> pd.DataFrame:
    """A row per model and sample, as they are kept, made if they are not current."""
    trained, path = _trained(runs), out_dir / "predictions.parquet"
    bags = bags_digest(place.cache / INDEX, slides["slide_id"])
    given = [trained["digest"].tolist(), bags, slides.to_numpy().tolist(), runs.classes]
    asked = digest([*given, STAGE_VERSIONS["external"]])
    if not Product(asked, path, stated_digest).is_current:
        folders = [task_dir / run_id for run_id in trained["run_id"]]
        log.info("%d models score %d samples", len(folders), len(samples))
        found = score_outside(folders, samples, cache, pick_device())
        identity = pd.DataFrame(
            [(s.sample_id, s.patient_id, s.centre, s.target) for s in samples],
            columns=["sample_id", "patient_id", "centre", "target"],
        )
        write_outside(path, list(trained["run_id"]), identity, found, runs.classes, asked)
    table = pq.read_table(path)
    frame: pd.DataFrame = table.drop_columns(["scores"]).to_pandas()
    return frame.assign(scores=list(scores_of(table)))


def _frame(runs: TaskRuns, scores: pd.DataFrame) -> pd.DataFrame:
    """With the run's arm, repeat, fold and seed."""
    names = ["run_id", "aggregator", "objective", "repeat", "fold", "seed"]
    return scores.merge(runs.runs[names], on="run_id", how="left", validate="many_to_one")


def _table(runs: TaskRuns, rows: pd.DataFrame, task_dir: Path) -> pd.DataFrame:
    """The tidy table of scores, with run_id."""
    encoder, streams = str(runs.runs["encoder"].iloc[0]), arm_streams(task_dir, runs.runs)
    table = score_table(rows, runs.name, encoder, streams, runs.classes)
    return table.assign(run_id=rows["run_id"].to_numpy())


def _coverage(
    runs: TaskRuns, samples: Sequence[Sample], scores: pd.DataFrame, confidence: float
) -> pd.DataFrame:
    """Of the sets that `predict` gives with each arm, by class."""
    target = np.array([sample.target for sample in samples])
    patient = np.unique([sample.patient_id for sample in samples], return_inverse=True)[1]
    found = []
    for key in runs.arms:
        own = _trained(runs)[["aggregator", "objective", "run_id", "fold"]]
        own = own[(own[["aggregator", "objective"]] == list(key)).all(axis=1)]
        inside = _sets(runs, own, scores)
        table = coverage_table(inside, target, patient, runs.classes, confidence)
        found.append(table.assign(aggregator=key[0], objective=key[1]))
    names = [name for name in found[0].columns if name not in ("aggregator", "objective")]
    return pd.concat(found, ignore_index=True)[["aggregator", "objective", *names]]


def _sets(runs: TaskRuns, own: pd.DataFrame, scores: pd.DataFrame) -> NDArray[np.bool_]:
    """Which classes are in each sample's set `[N, C]`, samples in the order of the scores."""
    validated = []
    for run_id, fold in zip(own["run_id"], own["fold"], strict=True):
        of_run, targets = runs.validation(run_id)
        validated.append(Validated.of(int(fold), targets, of_run.astype(np.float64)))
    conformal = CrossConformal(validated, len(runs.classes))
    by_run = dict(iter(scores.groupby("run_id", sort=False)["scores"]))
    each = np.stack([np.stack(by_run[run_id].to_numpy()) for run_id in own["run_id"]])
    probabilities = np.exp(metrics.log_probabilities(each)).swapaxes(0, 1)
    return np.stack([conformal.inside(conformal.p_values(p), COVERAGE) for p in probabilities])


def _missing(slides: pd.DataFrame, cache: BagCache) -> pd.DataFrame:
    """Slides of the task without a bag, and why."""
    lost = [s for s in slides["slide_id"] if not cache.has(s)]
    return pd.DataFrame([(s, cache.reason(s)) for s in lost], columns=["slide_id", "reason"])


def _summary(
    name: str,
    task: config.Task,
    samples: Sequence[Sample],
    slides: pd.DataFrame,
    runs: TaskRuns,
    own: Place,
    evaluation: config.Evaluation,
) -> dict[str, Any]:
    counts = np.bincount([s.target for s in samples], minlength=len(task.classes))
    arms: Mapping[ArmKey, int] = _trained(runs).value_counts(["aggregator", "objective"]).to_dict()
    known = BagCache(own.cache, resident=False).index.index
    return {
        "name": name,
        "task": runs.name,
        "classes": task.classes,
        "samples": dict(zip(task.classes, map(int, counts), strict=True)),
        "slides": len(slides),
        "patients": len({s.patient_id for s in samples}),
        "patients_by_class": _patients(samples, task.classes),
        "few": FEW_PATIENTS,
        "centres": sorted({s.centre for s in samples}),
        "shared_centres": sorted({s.centre for s in samples} & set(runs.test["centre"])),
        "models": len(_trained(runs)),
        "seeds": len(runs.seeds),
        "arms": [[*key, int(count)] for key, count in arms.items()],
        "same_names": sorted(set(slides["slide_id"]) & set(known)),
        "inner_patients": int(runs.test["patient_id"].nunique()),
        "coverage": COVERAGE,
        "evaluation": evaluation.model_dump(),
    }


def _patients(samples: Sequence[Sample], classes: Sequence[str]) -> dict[str, int]:
    """Class -> patients with a sample of it."""
    return {
        name: len({s.patient_id for s in samples if s.target == index})
        for index, name in enumerate(classes)
    }
