"""Where things come from: digests, fingerprints, stage versions, and the one atomic writer."""

import hashlib
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

# Raise a stage's version when its code changes what it writes. Snakemake does not watch an
# imported package: the version goes into each rule's params and into each output's digest.
STAGE_VERSIONS = {
    "demo": 1,
    "tiles": 1,
    "features": 1,
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

REPORTED_PACKAGES = (
    "wsi-ncmi",
    "torch",
    "torchvision",
    "timm",
    "openslide-python",
    "openslide-bin",
    "tiffslide",
    "tifffile",
    "imagecodecs",
    "h5py",
    "numpy",
    "scikit-learn",
    "albumentations",
    "snakemake",
)


def digest(value: Any) -> str:
    """First 32 hex digits of the SHA-256 of `value` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def sha256_file(path: Path) -> str:
    """SHA-256 of a whole file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`; renamed to `path`, flushed to disk, if the block succeeds.

    The name is fixed (`.<name>.part`), so that what a killed run left is overwritten by the next.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically; an equal file is left alone, its time as well."""
    if path.is_file() and path.read_text() == text:
        return
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a binary file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically, leaving an equal file alone."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def machine() -> dict[str, Any]:
    """The machine and the versions a result was made with."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": available_cores(),
        "packages": {name: package_version(name) for name in REPORTED_PACKAGES},
    }


def package_version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def has_gpu() -> bool:
    """Whether this machine has an NVIDIA driver; asked without importing PyTorch."""
    return Path("/dev/nvidiactl").exists()


def available_cores() -> int:
    """Cores that this process may use, which on a shared machine are fewer than it has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown"
