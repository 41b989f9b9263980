"""Where things come from: digests, checksums, fingerprints, and the versions of stages."""

import hashlib
import json
from pathlib import Path
from typing import Any, BinaryIO

# Raise a stage's version when its code changes what it writes. Snakemake does not watch an
# imported package: the version goes into each rule's params and into each output's digest.
STAGE_VERSIONS = {
    "demo": 1,
    "tiles": 3,
    "features": 2,
    "pack": 3,
    "splits": 2,
    "train": 5,
    "evaluate": 8,
    "external": 1,
    "attention": 3,
    "report": 10,
    "experiment": 3,
    "images": 6,
    "image_index": 1,
}

FINGERPRINT_BLOCK = 4096
FINGERPRINT_BLOCKS = 64


def digest(value: Any) -> str:
    """First 32 hex digits of the SHA-256 of `value` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def sha256_file(path: Path) -> str:
    """SHA-256 of a whole file, in hex."""
    with path.open("rb") as file:
        return sha256_stream(file)


def sha256_stream(file: BinaryIO) -> str:
    """SHA-256 of all that an open file holds from here on, in hex."""
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def fingerprint(path: Path, blocks: int = FINGERPRINT_BLOCKS) -> str:
    """A file's identity by content: its size, its first and last 64 KiB and blocks between.

    A slide of several GB is identified in milliseconds; a moved or touched file keeps its identity.
    """
    size = path.stat().st_size
    hasher = hashlib.sha256(str(size).encode())
    edge = FINGERPRINT_BLOCK * 16
    with path.open("rb") as file:
        hasher.update(file.read(edge))
        for i in range(1, blocks):
            file.seek(size * i // blocks)
            hasher.update(file.read(FINGERPRINT_BLOCK))
        file.seek(max(0, size - edge))
        hasher.update(file.read(edge))
    return hasher.hexdigest()[:32]
