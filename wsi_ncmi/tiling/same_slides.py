"""One slide under several slide_ids, found by what the files hold once they are tiled."""

from collections.abc import Mapping
from pathlib import Path

from wsi_ncmi.cohorts.twins import refuse_twins, sets_of
from wsi_ncmi.errors import SlideError
from wsi_ncmi.files.table import read_text


def refuse_same_slides(
    fingerprints: Mapping[str, str], manifest: Path, patient_of: Mapping[str, str]
) -> None:
    """Compare a bucket's slides with each other, and with those of the buckets tiled before.

    Args:
        fingerprints: slide_id -> fingerprint of each slide with tiles.
        manifest: of the bucket, to be written beside those of the others.
        patient_of: slide_id -> patient_id of the whole sheet; other slides are in no split.

    Raises:
        SlideError: a slide stands under the ids of several patients.
    """
    keys = [(found, slide_id) for slide_id, found in fingerprints.items()]
    for other in sorted(manifest.parent.glob("bucket-*.tsv")):
        if other != manifest:
            rows = [row for _, row in read_text(other).rows]
            keys += [(r["fingerprint"], r["slide_id"]) for r in rows if r["status"] == "ok"]
    refuse_twins(sets_of(keys), patient_of, "the same slide", SlideError)
