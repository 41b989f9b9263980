"""Stage `evaluate`: runs of a task become metrics, intervals, differences and figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from wsi_ncmi import config
from wsi_ncmi.errors import UserError
from wsi_ncmi.evaluation import centre_probe, metrics, policies, tables
from wsi_ncmi.evaluation.calibration import Reliability, reliability
from wsi_ncmi.evaluation.comparison import compare
from wsi_ncmi.evaluation.differences import Rules, difference_table, fixed_model_table
from wsi_ncmi.evaluation.origins import origin_table
from wsi_ncmi.evaluation.ranks import ranks
from wsi_ncmi.evaluation.samples import Arm, ArmKey, Samples
from wsi_ncmi.evaluation.scores import arm_of, model_metrics, passes_of, samples_of, score_table
from wsi_ncmi.evaluation.sensitivity import sensitivity_table
from wsi_ncmi.evaluation.staging import staging_table
from wsi_ncmi.files.atomic import atomic_path, write_json
from wsi_ncmi.files.frame import write_frame
from wsi_ncmi.files.table import DIGITS
from wsi_ncmi.predictions.completeness import ARM
from wsi_ncmi.predictions.read import TaskRuns, read_task, task_splits
from wsi_ncmi.predictions.records import (
    OK,
    arm_settings,
    arm_streams,
    score_scales,
    write_predictions_table,
)
from wsi_ncmi.predictions.splits import absent_from_validation, noted_warnings
from wsi_ncmi.predictions.states import marked_arms, state_counts
from wsi_ncmi.predictions.trials import rated_curves, read_searches
from wsi_ncmi.predictions.validation import read_validation
from wsi_ncmi.report import comparisons, figures
from wsi_ncmi.report.sensitivity import sensitivity


def run(
    task_dir: Path,
    run_manifests: Sequence[Path],
    index: Path | None,
    evaluation: config.Evaluation,
    reference: str,
    out_dir: Path,
    *,
    ordinal: bool = False,
    labels: Mapping[str, str] | None = None,
) -> None:
    """Evaluate a task.

    Args:
        task_dir: `runs/<task>`: a folder per run, and splits.tsv.
        run_manifests: `seed-<s>.tsv`, one or more.
        index: the packed cache's index.tsv, against which each run's bags are checked; None where
            there are no bags.
        evaluation: how arms are tested against their reference.
        reference: the objective that the others are compared with.
        out_dir: what is written: predictions.parquet, runs.tsv, metrics.tsv, per_class.tsv,
            scores.parquet (see `evaluation.scores`), model_metrics.tsv, differences.tsv,
            fixed_models.tsv, seeds.tsv, centres.tsv, centre_probe.tsv, origins.tsv, staging.tsv,
            calibration.tsv, information.tsv, curves.tsv, selection.tsv, sensitivity.tsv, search.tsv
            and search_curves.tsv (of nested searches), confusion.json, summary.json, figures/*.png.
        ordinal: whether the classes' order means something: the quadratic kappa is computed.
        labels: slide_id -> its label in the sheet, of a task whose classes join several labels.

    Raises:
        UserError: runs are missing, doubled, or were trained on other bags than those of today.
    """
    task = read_task(task_dir, run_manifests, index)
    if index is not None:
        _check_bags(task, task_dir, index)
    encoder, streams = str(task.runs["encoder"].iloc[0]), arm_streams(task_dir, task.runs)
    scores = score_table(task.test, task.name, encoder, streams, task.classes)
    rows, samples = samples_of(scores, task.classes, ordinal=ordinal)
    names = samples.metric_names
    arms = {key: arm_of(scores, key, task.classes) for key in task.arms}
    drawn = evaluation.bootstrap, evaluation.seed
    models = model_metrics(scores, task.classes, ordinal=ordinal)
    estimates, pairings = compare(samples, arms, task.cells, reference, *drawn)
    search, search_curves = read_searches(task_dir, task.runs)
    settings = arm_settings(task_dir, task.runs)
    reliabilities = {key: _reliability(samples, arm) for key, arm in arms.items()}
    written = {
        "runs": task.runs,
        "metrics": tables.metric_table(estimates, task.cells, names, evaluation.confidence),
        "seeds": tables.seed_table(estimates, {key: task.passes_of(key) for key in arms}, names),
        "per_class": tables.class_table(estimates, task.classes, rows, evaluation.confidence),
        "model_metrics": models,
        "differences": difference_table(pairings, models, samples, reference, _rules(evaluation)),
        "fixed_models": fixed_model_table(pairings, samples, passes_of(scores), reference),
        "centres": tables.centre_table(rows, samples, arms),
        "centre_probe": _centre_probe(task_dir, index, evaluation),
        "origins": origin_table(
            samples, arms, task.classes, _origin(rows, labels), *drawn, evaluation.confidence
        ),
        "staging": staging_table(samples, arms, task.classes, *drawn, evaluation.confidence),
        "calibration": tables.calibration_table(
            list(arms), task.test, score_scales(task_dir, task.runs)
        ),
        "information": tables.information_table(arms, samples.target),
        "curves": task.curves,
        "selection": policies.policy_table(_choices(task, task_dir)),
        "search": search,
        "search_curves": search_curves,
        "sensitivity": sensitivity_table(
            rated_curves(task.curves, search, search_curves, settings)
        ),
    }
    for name, table in written.items():
        write_frame(out_dir / f"{name}.tsv", table, DIGITS)
    confusions = {key: _confusions(samples, arm) for key, arm in arms.items()}
    write_json(out_dir / "confusion.json", _confusion_record(task, confusions))
    write_json(
        out_dir / "summary.json",
        {
            **_summary(task, task_dir, index, rows, reference, evaluation),
            "ordinal": ordinal,
            "metrics": list(names),
            "settings": settings,
            "warnings": [
                *_absent(task, task_dir, index),
                *_confounded(rows),
                *noted_warnings(task_dir),
            ],
        },
    )
    write_predictions_table(out_dir / "predictions.parquet", task.predictions)
    with atomic_path(out_dir / "scores.parquet") as temporary:
        pq.write_table(_parquet(scores), temporary)
    marks = marked_arms(state_counts(task.runs))
    _draw_comparisons(out_dir / "figures", written["differences"], models, evaluation, marks)
    _draw(out_dir / "figures", written, confusions, reliabilities, task, evaluation.confidence)


def _parquet(scores: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(scores, preserve_index=False)


def _rules(evaluation: config.Evaluation) -> Rules:
    family = evaluation.family
    margin, confidence = evaluation.equivalence_margin, evaluation.confidence
    return Rules(evaluation.primary, margin, family.by, family.objectives, confidence)


def _check_bags(task: TaskRuns, task_dir: Path, index: Path) -> None:
    from wsi_ncmi.bags.cache import bags_digest  # images are evaluated without bags

    splits = task_splits(task_dir)
    if splits is None:
        raise UserError(f"task {task.name}: {task_dir / 'splits.tsv'} is missing: rerun its splits")
    today = bags_digest(index, splits["slide_id"].unique())
    other = task.runs.loc[task.runs["bags_digest"] != today, "run_id"]
    if len(other):
        raise UserError(
            f"task {task.name} was trained on bags that have changed since: {len(other)} of "
            f"{len(task.runs)} runs (first {other.iloc[0]}) have another bags digest than {index} "
            f"({today}): rerun its training with snakemake -R train"
        )


def _origin(rows: pd.DataFrame, labels: Mapping[str, str] | None) -> list[str]:
    """Each sample's label in the sheet; empty where classes are labels."""
    return [labels[sample] for sample in rows["sample_id"]] if labels else []


def _centre_probe(
    task_dir: Path, index: Path | None, evaluation: config.Evaluation
) -> pd.DataFrame:
    """What the slides' features tell of the centre; a row with the reason where that is unknown."""
    splits = None if index is None else task_splits(task_dir, index)
    if splits is None or index is None or not evaluation.centre_probe:
        return pd.DataFrame(columns=centre_probe.COLUMNS)
    from wsi_ncmi.bags.means import slide_means, without_twins  # images have no bags

    # Of the test part first: labels of the training part may be wrong on purpose.
    rows = splits.sort_values("part", key=lambda part: part != "test", kind="stable")
    slides = without_twins(rows.drop_duplicates("slide_id")[centre_probe.SLIDE], index)
    kept, reason = centre_probe.probed(slides)
    if reason:
        return centre_probe.absent(slides, reason)
    means = slide_means(index.parent, kept["slide_id"].tolist())
    drawn = evaluation.bootstrap, evaluation.seed, evaluation.confidence
    robustness = evaluation.robustness_index
    return centre_probe.centre_probe(kept, means, *drawn, robustness=robustness)


def _reliability(samples: Samples, arm: Arm) -> Reliability:
    found = [(samples.target[rows], scores) for rows, _, scores in arm.of_seeds()]
    targets, scores = map(np.concatenate, zip(*found, strict=True))
    return reliability(targets, np.exp(metrics.log_probabilities(scores)))


def _choices(task: TaskRuns, task_dir: Path) -> dict[ArmKey, list[policies.Choice]]:
    """What policies make of every trained model, by its validation part."""
    found: dict[ArmKey, list[policies.Choice]] = {key: [] for key in task.arms}
    for run in task.runs[task.runs["status"] == OK].itertuples():
        seen = read_validation(task_dir / run.run_id)
        own = found[run.aggregator, run.objective]
        if seen.scores is not None:
            own += policies.choices(seen.scores, seen.targets)
        elif seen.curves is not None:
            own += policies.choices_of_curves(*seen.curves)
        if run.selection == policies.AVERAGED:
            scores, targets = task.validation(run.run_id)
            own.append(policies.averaged(scores, targets, int(run.epochs)))
    return found


def _confusions(samples: Samples, arm: Arm) -> metrics.Ints:
    """Counts `[S, C, C]` of the passes with a trained model."""
    return np.stack(
        [
            metrics.confusion(samples.target[rows], predicted, samples.n_classes)
            for rows, predicted, _ in arm.of_seeds()
        ]
    )


def _confusion_record(task: TaskRuns, counts: Mapping[ArmKey, metrics.Ints]) -> dict[str, Any]:
    arms = [
        {
            "aggregator": key[0],
            "objective": key[1],
            "seeds": [seed for _, seed in task.passes_of(key)],
            "repeats": [repeat for repeat, _ in task.passes_of(key)],
            "counts": matrices.tolist(),
        }
        for key, matrices in counts.items()
    ]
    return {"classes": task.classes, "seeds": task.seeds, "arms": arms}


def _summary(
    task: TaskRuns,
    task_dir: Path,
    index: Path | None,
    rows: pd.DataFrame,
    reference: str,
    evaluation: config.Evaluation,
) -> dict[str, Any]:
    return {
        "task": task.name,
        "encoder": task.runs["encoder"].iloc[0],
        "protocol": task.runs["protocol"].iloc[0],
        "classes": task.classes,
        "reference": reference,
        "arms": [list(key) for key in task.cells],
        "seeds": task.seeds,
        "repeats": task.repeats,
        "folds": sorted(int(fold) for fold in task.runs["fold"].unique()),
        "runs": len(task.runs),
        "precision": sorted(task.runs["precision"].unique()),
        "failed": _failed(task),
        "states": state_counts(task.runs),
        "test_samples": int(rows["sample_id"].nunique()),
        "test_patients": int(rows["patient_id"].nunique()),
        "test_centres": sorted(rows["centre"].unique()),
        "samples": _samples_by_part(task, task_dir, index),
        "evaluation": evaluation.model_dump(),
    }


def _absent(task: TaskRuns, task_dir: Path, index: Path | None) -> list[str]:
    splits = task_splits(task_dir, index)
    return [] if splits is None else absent_from_validation(splits, task.classes)


def _confounded(rows: pd.DataFrame) -> list[str]:
    """Whether every class is tested in one centre alone, though centres have several classes."""
    centres_of_class = rows.groupby("target")["centre"].nunique()
    classes_of_centre = rows.groupby("centre")["target"].nunique()
    alone = len(classes_of_centre) > 1 and (centres_of_class == 1).all()
    if not alone or (classes_of_centre == 1).all():  # the report's table by centre says the latter
        return []
    return [
        "every class has test samples of one centre alone: a model that tells centres apart (by "
        "stain or scanner) already knows which classes are possible"
    ]


def _failed(task: TaskRuns) -> list[dict[str, Any]]:
    """The models that diverged: which, in which epoch (−1: before the first) and why."""
    names = ["run_id", *ARM, "fold", "seed", "failed_epoch", "reason"]
    return [
        {**row, "failed_epoch": int(row["failed_epoch"])}
        for row in task.failed[names].to_dict("records")
    ]


def _samples_by_part(
    task: TaskRuns, task_dir: Path, index: Path | None
) -> dict[str, dict[str, int]]:
    """Part -> class -> samples, over all folds (in k folds a sample trains in several).

    From splits.tsv, and for a task without one from the predictions, which hold no training part.
    """
    splits = task_splits(task_dir, index)
    if splits is not None:
        rows = splits[["fold", "part", "sample_id", "label"]].drop_duplicates()
    else:
        columns = ["part", "sample_id", "target"]
        rows = task.predictions.select(columns).to_pandas().drop_duplicates()
        rows["label"] = [task.classes[target] for target in rows["target"]]
    rows = rows.drop_duplicates(["part", "sample_id"])
    counts = rows.groupby(["part", "label"]).size()
    parts = [part for part in ("train", "val", "test") if part in counts.index.levels[0]]
    return {p: {c: int(counts.get((p, c), 0)) for c in task.classes} for p in parts}


def _draw_comparisons(
    folder: Path,
    differences: pd.DataFrame,
    models: pd.DataFrame,
    evaluation: config.Evaluation,
    marks: Mapping[ArmKey, str],
) -> None:
    """The forest of differences and the ranks over folds, where there is something to draw."""
    confidence = evaluation.confidence
    values = comparisons.block_values(models, ["repeat", "fold"], marks)
    ranked = ranks(values, 1 - confidence)
    marked = comparisons.with_marks(differences, marks)
    drawn = {"forest": comparisons.forest(marked, evaluation.equivalence_margin, confidence)}
    if ranked is not None:
        drawn["ranks"] = comparisons.critical_difference(ranked, f"{ranked.blocks} folds")
    for name in ("forest", "ranks"):
        path, picture = folder / f"{name}.png", drawn.get(name)
        path.unlink(missing_ok=True)  # of an earlier run, with more arms
        if picture is not None:
            with atomic_path(path) as temporary:
                temporary.write_bytes(picture)


def _draw(
    folder: Path,
    written: Mapping[str, pd.DataFrame],
    confusions: Mapping[ArmKey, metrics.Ints],
    reliabilities: Mapping[ArmKey, Reliability],
    task: TaskRuns,
    confidence: float,
) -> None:
    mean_counts = {key: counts.mean(axis=0) for key, counts in confusions.items()}
    marks = marked_arms(state_counts(task.runs))
    drawn = {
        "macro_f1": figures.macro_f1(written["metrics"], written["seeds"], confidence, marks),
        "confusion": figures.confusion(mean_counts, task.classes),
        "curves": figures.curves(task.curves, marks),
        "reliability": figures.reliability(reliabilities),
        "sensitivity": sensitivity(written["sensitivity"]),
    }
    for name, picture in drawn.items():
        with atomic_path(folder / f"{name}.png") as temporary:
            temporary.write_bytes(picture)
