"""The predictions of a task's models on a second cohort: one file, with the digest of all that
decides it, so that statistics are made anew without scoring anew."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from wsi_ncmi.predictions.records import predictions_table, write_predictions_table

PART = "external"
DIGEST = b"digest"
NO_EPOCH = -1
"""In the column that the records of a run have: which epoch's weights these are, they say."""


def write_outside(
    path: Path,
    run_ids: Sequence[str],
    samples: pd.DataFrame,
    scores: NDArray[np.float32],
    classes: Sequence[str],
    digest: str,
) -> None:
    """Write the scores of M models of N samples, model by model.

    Args:
        run_ids: of the models `[M]`.
        samples: a row each: sample_id, patient_id, centre, target.
        scores: class log-odds `[M, N, C]`.
        digest: of all that decides them.
    """
    models, count = scores.shape[:2]
    flat = np.ascontiguousarray(scores.reshape(models * count, -1))
    frame = pd.concat([samples] * models, ignore_index=True)[[*samples.columns]]
    frame = frame.assign(
        run_id=np.repeat(np.array(run_ids, dtype=object), count),
        part=PART,
        epoch=NO_EPOCH,
        predicted=flat.argmax(1),
        calibrated=True,
    )
    table = predictions_table(frame, flat, classes)
    metadata = {**table.schema.metadata, DIGEST: digest.encode()}
    write_predictions_table(path, table.replace_schema_metadata(metadata))


def stated_digest(path: Path) -> str:
    """The digest of a file that `write_outside` wrote; "" of any other."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError):
        return ""
    return str(metadata.get(DIGEST, b"").decode())
