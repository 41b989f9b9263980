"""Whose attention finds lesion tiles? Cross-entropy and NCMI on made slides (docs/results.md, H7).

    python benchmarks/attention_localisation.py results/results-attention \\
        --figure docs/images/attention.png

Of every trained model of `config/studies/results-attention.yaml` and every slide that it was tested
on, results/attention.tsv has the prediction and, where the slide has lesion tiles, the AUROC of
attention for them: 0.5 is attention that ignores them. An aggregator with an attention for each
class is taken by the mean over classes, as the stage `attention` does. results/attention.json has
the arms and their differences from cross-entropy. Without a folder both are made of
results/attention.tsv.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from attention_differences import ARM, analysed, by_slides, states
from attention_figure import draw
from measure import RESULTS
from sklearn.metrics import roc_auc_score

from wsi_ncmi.bags.cache import BagCache
from wsi_ncmi.files.atomic import write_json
from wsi_ncmi.files.frame import read_frame, write_frame
from wsi_ncmi.files.table import DIGITS
from wsi_ncmi.predictions.records import OK, read_manifest
from wsi_ncmi.training.bags import packed
from wsi_ncmi.training.mil import load_run

TABLE = RESULTS / "attention.tsv"
LESIONS = Path("results/attention-bags/lesions.tsv")


class Source(NamedTuple):
    """A finished study: the folder of its task, its bags, and which instances are lesions."""

    runs: Path
    cache: BagCache
    lesions: pd.DataFrame


def source(cohort: Path, lesions: Path) -> Source:
    """Of the cohort's folder in `results/`.

    Raises:
        SystemExit: the study has not been run.
    """
    if not (cohort / "runs/lesions").is_dir():
        raise SystemExit(f"{cohort}: no runs: run config/studies/results-attention.yaml first")
    found = read_frame(lesions, {"instance": int, "lesion": int})
    index = next(cohort.glob("cache/*/index.tsv"))
    return Source(cohort / "runs/lesions", BagCache(index.parent), found)


def collected(study: Source) -> pd.DataFrame:
    """A row for each model and slide that it was tested on.

    Raises:
        SystemExit: a model failed, or lesions.tsv is of other bags.
    """
    lesion = {
        name: rows.sort_values("instance")["lesion"].to_numpy(bool)
        for name, rows in study.lesions.groupby("slide_id")
    }
    found: list[dict[str, Any]] = []
    for manifest in sorted(study.runs.glob("seed-*.tsv")):
        for record in read_manifest(manifest).itertuples():
            if record.status != OK:
                raise SystemExit(f"{record.run_id}: {record.status}: {record.reason}")
            arm = {key: getattr(record, key) for key in (*ARM, "seed", "fold", "state")}
            found += [arm | row for row in _of_run(study, record.run_id, lesion)]
    return pd.DataFrame(found)


@torch.inference_mode()
def _of_run(study: Source, run_id: str, lesion: dict[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    network, _, content = load_run(study.runs / run_id, torch.device("cpu"))
    rows = pq.read_table(study.runs / run_id / "predictions.parquet").to_pandas()
    for row in rows[rows["part"] == "test"].itertuples():
        bag = packed([study.cache.bags([row.sample_id])], torch.device("cpu"))
        attention = network.bag(bag).attention.mean(-1).numpy()
        truth = lesion[row.sample_id]
        if len(truth) != len(attention):
            raise SystemExit(f"{row.sample_id}: lesions.tsv has other instances than the bag")
        yield {
            "slide_id": row.sample_id,
            "site": row.patient_id,
            "label": content["classes"][row.target],
            "predicted": content["classes"][row.predicted],
            "auroc": roc_auc_score(truth, attention) if truth.any() else np.nan,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohort", nargs="?", type=Path, help="the study's folder in results/")
    parser.add_argument("--lesions", type=Path, default=LESIONS)
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    if given.cohort:
        write_frame(TABLE, collected(source(given.cohort, given.lesions)), DIGITS)
    table = pd.read_csv(TABLE, sep="\t")
    rows = analysed(table)
    print(pd.DataFrame(rows).drop(columns="seeds").round(4).to_string(index=False))
    facts = {"arms": rows, "by_slides": by_slides(table), "states": states(table)}
    write_json(TABLE.with_suffix(".json"), facts)
    if given.figure:
        draw(rows, given.figure)


if __name__ == "__main__":
    main()
