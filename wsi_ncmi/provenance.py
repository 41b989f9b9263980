"""Where things come from: digests, fingerprints, stage versions, and the one atomic writer."""

import hashlib
import json
from pathlib import Path
from typing import Any

# Raise a stage's version when its code changes what it writes. Snakemake does not watch an
# imported package: the version goes into each rule's params and into each output's digest.
STAGE_VERSIONS = {
    "demo": 1,
    "tiles": 2,
    "features": 2,
    "pack": 1,
    "splits": 1,
    "train": 2,
    "evaluate": 2,
    "attention": 1,
    "report": 2,
    "images": 2,
}

FINGERPRINT_BLOCK = 4096
FINGERPRINT_BLOCKS = 64


def digest(value: Any) -> str:
    """First 32 hex digits of the SHA-256 of `value` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def fingerprint(path: Path) -> str:
    """A slide's identity by content: its size, its first and last 64 KiB and 64 blocks between.

    A slide of several GB is identified in milliseconds; a moved or touched file keeps its identity.
    """
    size = path.stat().st_size
    hasher = hashlib.sha256(str(size).encode())
    edge = FINGERPRINT_BLOCK * 16
    with path.open("rb") as file:
        hasher.update(file.read(edge))
        for i in range(1, FINGERPRINT_BLOCKS):
            file.seek(size * i // FINGERPRINT_BLOCKS)
            hasher.update(file.read(FINGERPRINT_BLOCK))
        file.seek(max(0, size - edge))
        hasher.update(file.read(edge))
    return hasher.hexdigest()[:32]
