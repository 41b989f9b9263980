"""Stage `image_index`: a data set is read, decoded and hashed once, for all its tasks and jobs."""

import logging
from pathlib import Path

from wsi_ncmi.config import ImageTask
from wsi_ncmi.files.atomic import write_json
from wsi_ncmi.files.frame import write_frame
from wsi_ncmi.images.data import open_source, source_of
from wsi_ncmi.images.datasets.interface import DatasetError
from wsi_ncmi.images.index import checks
from wsi_ncmi.images.index.make import make_index
from wsi_ncmi.images.index.record import Index, read_index, write_index

log = logging.getLogger(__name__)


def run(task: ImageTask, out: Path, threads: int) -> None:
    """Index a task's data set. What is corrupt or overlaps is listed; each task decides about it.

    Args:
        out: the folder's summary.json, written last. Beside it: images.parquet and files.parquet
            (see `images.index.record`), corrupt.tsv, overlap.tsv.
        threads: that read and decode.

    Raises:
        DatasetError: the data set is missing, or not what its part expects.
    """
    folder = out.parent
    dataset = open_source(task)
    index = make_index(dataset, Path(task.path), source_of(task), _previous(folder, task), threads)
    write_index(folder, index)
    listed = {"corrupt": checks.corrupt(index), "overlap": checks.overlap(index)}
    for name, rows in listed.items():
        write_frame(folder / f"{name}.tsv", rows)
        if len(rows):
            log.warning("%s: %s: %d images, listed in %s.tsv", task.path, name, len(rows), name)
    write_json(out, checks.summary(index))


def _previous(folder: Path, task: ImageTask) -> Index | None:
    """An earlier index of the same data set and options; a damaged one counts as none."""
    try:
        found = read_index(folder)
    except DatasetError:
        return None
    return found if found.source == source_of(task) else None
