"""Seeds derived from (seed, fold) alone, so that paired arms share order, start and dropout."""

from wsi_ncmi.provenance import digest


def derive(seed: int, fold: int, purpose: str) -> int:
    """A 63-bit seed for one purpose ("order", "start", "dropout") of one run."""
    return int(digest([seed, fold, purpose])[:15], 16)
