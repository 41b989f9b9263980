"""A small results folder in the formats of all stages, with numbers as a real run has them."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from wsi_ncmi import config
from wsi_ncmi.bags.cache import bags_digest
from wsi_ncmi.cohorts.sheet import SlideRow, bucket_of
from wsi_ncmi.predictions.validation import write_validation
from wsi_ncmi.report.heatmap import draw_heatmap, tile_strip
from wsi_ncmi.stages import evaluate

CLASSES = ["negative", "itc", "micro", "macro"]
CENTRES = 5
ENCODER = "demo"
BUCKETS = config.Config.model_fields["buckets"].default
SKILL = {"cross_entropy": 1.5, "ncmi": 1.6}


def make_config(**changes):
    raw = {
        "cohort": "demo",
        "demo": {},
        "extraction": {"encoder": ENCODER},
        "tasks": {
            "stage": {
                "classes": CLASSES,
                "ordinal": True,
                "seeds": [0, 1, 2],
                "protocol": {"folds": 2},
            }
        },
        "evaluation": {"bootstrap": 200},
    }
    return config.parse({**raw, **changes})


def make_rows():
    rng = np.random.default_rng(0)
    labels = rng.choice(CLASSES, 60, p=[0.5, 0.12, 0.15, 0.23])
    return [
        SlideRow(
            f"slide_{i:02d}", str(label), f"patient_{i // 2:02d}", f"centre_{i // 12}", "s.tif"
        )
        for i, label in enumerate(labels)
    ]


def write_tsv(path: Path, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, sep="\t", index=False)


def write_cohort(cohort: Path, rows) -> Path:
    """Manifests of tiles and features, the encoder's facts, and the cache's index."""
    rng = np.random.default_rng(1)
    tiles, features, index = [], [], []
    for i, row in enumerate(rows):
        bad = {7: "no tissue: 0.1 % of the slide", 19: "cannot be read: not a TIFF file"}.get(i)
        count = 0 if bad else int(rng.integers(150, 900))
        key = f"{i:032x}"
        mpp = 1.9 + 0.05 * int(row.centre[-1])
        status = {7: "no_tissue", 19: "unreadable"}.get(i, "ok")
        source = "openslide.mpp-x" if i % 3 else "tiff.ResolutionUnit"
        missing = status == "unreadable"
        tiles.append(
            {"slide_id": row.slide_id, "status": status, "reason": bad or "", "tiles": count}
            | {"mpp": "" if missing else mpp, "mpp_source": "" if missing else source}
            | {"reader": "" if missing else ("openslide" if i % 5 else "native")}
            | {"reader_reason": "" if missing or not i % 5 else "a slide of vendor hamamatsu"}
            | {"level": 0, "level_downsample": 1.0, "read_px": 67, "residual": 1.0521}
            | {"unreadable_fraction": 0.02 if i == 4 else 0.0}
            | {"note": "the mask is odd" if i == 4 else ""}
            | {"unreachable": "slide_05.tif: no such file" if i == 5 else ""}
            | {"scale_error_percent": "" if missing else 0.3, "width": 2400, "height": 2800}
            | {"fingerprint": key, "digest": key}
        )
        if not bad:
            features.append(
                {
                    "slide_id": row.slide_id,
                    "status": "ok",
                    "reason": "",
                    "tiles": count,
                    "invalid": int(i == 3),
                }
                | {
                    "dim": 256,
                    "seconds": 1.5,
                    "digest": key,
                    "encoder": ENCODER,
                    "weights_sha256": "ab" * 32,
                }
            )
        index.append(
            {"slide_id": row.slide_id, "status": "missing" if bad else "ok", "reason": bad or ""}
            | {"offset": sum(int(r["count"]) for r in index), "count": count}
            | {"digest": "" if bad else key, "same_as": ""}
        )
    for bucket in range(BUCKETS):
        for folder, manifest in (("tiles", tiles), (f"features/{ENCODER}", features)):
            own = [r for r in manifest if bucket_of(str(r["slide_id"]), BUCKETS) == bucket]
            if own:
                write_tsv(cohort / folder / f"bucket-{bucket}.tsv", own)
    # What an earlier number of buckets left behind is not to be counted.
    write_tsv(cohort / f"tiles/bucket-{BUCKETS}.tsv", tiles[:2])
    facts = {
        "name": "demo",
        "description": "ResNet-18 with fixed-seed random weights: it was never trained.",
        "weights_source": "seed 17",
        "weights_sha256": "ab" * 32,
        "input_px": 64,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "dim": 256,
        "licence": "Apache-2.0",
        "mpp": 2.0,
    }
    cache = cohort / f"cache/{ENCODER}"
    write_tsv(cache / "index.tsv", index)
    write_features(cache, rows, [int(row["count"]) for row in index])
    (cohort / f"cache/{ENCODER}/encoder.json").write_text(json.dumps(facts))
    overlay = np.full((90, 120, 3), 240, np.uint8)
    for row in rows[:4]:
        path = cohort / f"tiles/overlays/{row.slide_id}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(overlay).save(path)
    return cohort / f"cache/{ENCODER}/index.tsv"


def write_features(cache: Path, rows, counts) -> None:
    """Features that know nothing but the centre, and that little."""
    centres = np.array([int(row.centre[-1]) for row in rows])
    rng = np.random.default_rng(2)
    means = rng.normal(0, 1, (len(rows), 8)) + np.eye(8)[centres % 8]
    np.save(cache / "features.npy", np.repeat(means, counts, axis=0).astype(np.float16))
    np.save(cache / "coords.npy", np.zeros((sum(counts), 2), np.int32))


def write_run(task_dir: Path, run: dict, test, classes, rng) -> None:
    """One model's predictions and curves."""
    skill = SKILL.get(run["objective"], 1.0)
    target = np.array([classes.index(row.label) for row in test])
    scores = rng.normal(0, 1, (len(test), len(classes))).astype(np.float32)
    scores[np.arange(len(test)), target] += skill
    columns = {
        "run_id": run["run_id"],
        "part": "test",
        "epoch": 20,
        "sample_id": [row.slide_id for row in test],
        "patient_id": [row.patient_id for row in test],
        "centre": [row.centre for row in test],
        "target": target,
        "predicted": scores.argmax(1),
        "scores": list(scores),
        "calibrated": True,
    }
    table = pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False)
    table = table.set_column(8, "scores", table["scores"].cast(pa.list_(pa.float32())))
    folder = task_dir / run["run_id"]
    folder.mkdir(parents=True)
    metadata = {b"classes": json.dumps(classes).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), folder / "predictions.parquet")
    given = {"learning_rate": 3e-3, "epochs": 20, "batch_size": 4}
    training = config.Training.model_validate(given).model_dump(mode="json")
    settings = {"classes": classes, "objective": {"options": {}}, "training": training}
    (folder / "run.json").write_text(json.dumps({"settings": settings, "score_scale": 2.0}))
    write_validation_part(folder, len(classes))
    decay = np.exp(-np.arange(1, 21) / 7)
    curves = [
        {"epoch": e + 1, "part": part, "loss": 1.4 * decay[e] + extra + rng.normal(0, 0.03)}
        | {"macro_f1": 0.6 - 0.4 * decay[e] + rng.normal(0, 0.03) if part == "val" else None}
        for e in range(20)
        for part, extra in (("train", 0.1), ("val", 0.4))
    ]
    write_tsv(folder / "curves.tsv", curves)


def write_validation_part(folder: Path, classes: int) -> None:
    """Scores of 12 samples after 20 epochs."""
    rng = np.random.default_rng(len(folder.name))
    scores = torch.from_numpy(rng.normal(0, 1, (20, 12, classes)).astype(np.float32))
    names = pd.Series([f"val_{i}" for i in range(12)])
    write_validation(folder, names, torch.arange(12) % classes, list(scores))


def write_task(
    cohort: Path, rows, index: Path | None, arms, folds=2, seeds=(0, 1, 2), repeats=1
) -> Path:
    """All runs of the task `stage`: two folds by patient, in every repeat others."""
    task_dir = cohort / "runs/stage"
    classes = sorted({row.label for row in rows}, key=lambda c: ([*CLASSES, c]).index(c))
    usable = [row for i, row in enumerate(rows) if i not in (7, 19)]
    number = {row.slide_id: int(row.patient_id.split("_")[-1]) for row in usable}

    def is_tested(row, fold) -> bool:
        return number[row.slide_id] // (fold // folds + 1) % folds == fold % folds

    repeat_of = {fold: fold // folds for fold in range(folds * repeats)}
    splits = [
        {"fold": fold, "part": "test" if is_tested(row, fold) else "train"}
        | ({"repeat": repeat} if repeats > 1 else {})
        | {"sample_id": row.slide_id, "slide_id": row.slide_id, "patient_id": row.patient_id}
        | {"centre": row.centre, "label": row.label}
        for fold, repeat in repeat_of.items()
        for row in usable
    ]
    write_tsv(task_dir / "splits.tsv", splits)
    digest = bags_digest(index, number) if index else ""
    for seed in seeds:
        rng = np.random.default_rng(seed)
        runs = [
            {
                "run_id": f"{a}-{o}-f{fold}-s{seed}",
                "task": "stage",
                "cohort": "demo",
                "encoder": ENCODER,
            }
            | {
                "protocol": "kfold",
                "repeat": repeat_of[fold],
                "fold": fold,
                "seed": seed,
                "aggregator": a,
                "objective": o,
            }
            | {
                "selection": "last",
                "precision": "fp32",
                "status": "ok",
                "state": "trained",
                "remedy": "",
                "epochs": 20,
                "best_epoch": 20,
                "failed_epoch": "",
                "reason": "",
                "seconds": 3.2,
                "digest": "d" * 32,
            }
            | {"bags_digest": digest}
            for a, o in arms
            for fold in repeat_of
        ]
        for run in runs:
            test = [row for row in usable if is_tested(row, run["fold"])]
            write_run(task_dir, run, test, classes, rng)
        write_tsv(task_dir / f"seed-{seed}.tsv", runs)
    return task_dir


REASON = "the loss is not finite in epoch 3 ({'loss': nan}): lower training.learning_rate"


def diverge(cohort: Path, *run_ids: str) -> None:
    """Let models of the task `stage` have failed: a row, curves, and no predictions."""
    task_dir = cohort / "runs/stage"
    for manifest in task_dir.glob("seed-*.tsv"):
        frame = pd.read_csv(manifest, sep="\t", dtype=str, keep_default_na=False)
        own = frame["run_id"].isin(run_ids)
        failed = {
            "status": "failed",
            "state": "",
            "epochs": "3",
            "best_epoch": "",
            "failed_epoch": "3",
        }
        frame.loc[own, [*failed, "reason"]] = [*failed.values(), REASON]
        frame.to_csv(manifest, sep="\t", index=False)
    for run_id in run_ids:
        for name in ("predictions.parquet", "validation.npz"):
            (task_dir / run_id / name).unlink()
        (task_dir / run_id / "run.json").write_text(json.dumps({"settings": {"classes": CLASSES}}))


def fake_slide(rng, height=280, width=240):
    """A thumbnail of pink tissue on white, tile corners at level 0, and a lesion."""
    yy, xx = np.mgrid[:height, :width]
    tissue = ((yy - 140) / 110) ** 2 + ((xx - 120) / 90) ** 2 < 1
    thumbnail = np.full((height, width, 3), 244, np.uint8)
    noise = rng.integers(-18, 18, (height, width, 1))
    thumbnail[tissue] = np.clip(np.array([214, 150, 190]) + noise, 0, 255)[tissue]
    coords = np.array([(x, y) for y in range(0, 2800, 67) for x in range(0, 2400, 67)])
    inside = tissue[(coords[:, 1] + 33) // 10 % height, (coords[:, 0] + 33) // 10 % width]
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    lesion = np.stack([1500 + 300 * np.cos(angle), 1200 + 220 * np.sin(angle)], 1)
    return thumbnail, coords[inside].astype(np.int32), lesion


def write_attention(task_dir: Path, rows) -> None:
    rng = np.random.default_rng(5)
    folder = task_dir / "attention"
    aurocs = []
    for row in rows[:2]:
        thumbnail, coords, lesion = fake_slide(rng)
        distance = np.hypot(*(coords - lesion.mean(0)).T)
        for objective in SKILL:
            weight = np.exp(-distance / 400 + rng.normal(0, 0.3, len(coords)))
            name = f"{row.slide_id}--abmil--{objective}.png"
            attention = weight / weight.sum()
            pictures = {
                "heatmaps": draw_heatmap(thumbnail, coords, 67, 10.0, attention, [lesion]),
                "tiles": tile_strip(
                    list(rng.integers(120, 250, (8, 64, 64, 3), dtype=np.uint8)),
                    np.sort(attention)[::-1][:8],
                ),
            }
            for kind, data in pictures.items():
                (folder / kind).mkdir(parents=True, exist_ok=True)
                (folder / kind / name).write_bytes(data)
            aurocs.append(
                {"aggregator": "abmil", "objective": objective, "slide_id": row.slide_id}
                | {"label": row.label, "tiles": len(coords), "lesion_tiles": 41, "auroc": 0.87}
            )
    write_tsv(folder / "lesion_auroc.tsv", aurocs)
    (folder / "summary.json").write_text(json.dumps({"model": "seed 0 of each fold"}))


ARMS = [("abmil", "cross_entropy"), ("abmil", "ncmi"), ("mean", "cross_entropy"), ("mean", "ncmi")]


def make_cohort(cohort: Path, arms=ARMS, attention=False, repeats=1):
    """results/demo with the task `stage`: (cohort folder, sheet rows, cache index)."""
    rows = make_rows()
    index = write_cohort(cohort, rows)
    task_dir = write_task(cohort, rows, index, arms, repeats=repeats)
    if attention:
        write_attention(task_dir, rows)
    return cohort, rows, index


def evaluate_cohort(cohort: Path, index: Path | None) -> Path:
    """Evaluates its task with few resamples; gives the evaluation's folder."""
    task_dir = cohort / "runs/stage"
    manifests = sorted(task_dir.glob("seed-*.tsv"))
    settings = make_config().evaluation
    evaluate.run(
        task_dir, manifests, index, settings, "cross_entropy", task_dir / "evaluation", ordinal=True
    )
    return task_dir / "evaluation"


@pytest.fixture
def settings():
    """Makes a configuration of the demo, with changes."""
    return make_config


@pytest.fixture
def evaluation():
    """Evaluates a cohort: (cohort folder, index or None) -> folder."""
    return evaluate_cohort


@pytest.fixture
def fabricate(tmp_path):
    """Makes a cohort whose runs are not evaluated yet."""
    return partial(make_cohort, tmp_path / "results/demo")


@pytest.fixture(scope="session")
def evaluated_once(tmp_path_factory):
    cohort = tmp_path_factory.mktemp("evaluated") / "results/demo"
    _, rows, index = make_cohort(cohort, attention=True)
    evaluate_cohort(cohort, index)
    return cohort, rows, index


@pytest.fixture
def evaluated(evaluated_once, tmp_path):
    """A copy of one evaluated cohort with attention: (cohort folder, sheet rows, cache index)."""
    source, rows, index = evaluated_once
    cohort = tmp_path / "results/demo"
    shutil.copytree(source, cohort)
    return cohort, rows, cohort / index.relative_to(source)
