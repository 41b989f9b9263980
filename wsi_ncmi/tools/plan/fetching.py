"""Which slides at addresses are to be fetched, by what is on the disk."""

from collections.abc import Sequence
from pathlib import Path

from wsi_ncmi.address import is_remote
from wsi_ncmi.cohorts.sheet import SlideRow


def fetch_lines(rows: Sequence[SlideRow], features: Path, encoders: Sequence[str]) -> list[str]:
    """A line where slides at addresses lack the bag of an encoder: one fetch serves all encoders.

    Args:
        features: folder of the encoders' folders of bags.
    """
    names = [row.slide_id for row in rows if is_remote(row.path)]
    lacking = {
        encoder: {name for name in names if not (features / encoder / f"{name}.h5").is_file()}
        for encoder in encoders
    }
    needed = set().union(*lacking.values())
    if not needed:
        return []
    by = ", ".join(f"{len(found)} of {encoder}" for encoder, found in lacking.items())
    return [
        f"fetch: {len(needed)} of {len(names)} slide(s) at addresses lack a bag ({by}); each is "
        "fetched once for all encoders"
    ]
