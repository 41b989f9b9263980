"""Where things come from: digests, fingerprints, stage versions, and the one atomic writer."""

import errno
import hashlib
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from wsi_ncmi.errors import OutputError

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
    "simplejpeg",
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


UNWRITABLE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around writing `path`.

    Raises:
        OutputError: the disk is full or broken, or the folder cannot be written to.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:  # h5py raises either, with the cause in its text
        number = getattr(error, "errno", None)
        causes = [os.strerror(n) for n in UNWRITABLE if n == number or os.strerror(n) in str(error)]
        if not causes:
            raise
        raise OutputError(
            f"{path}: cannot be written: {causes[0]}: mend that and give the same command again; "
            "what is finished is kept"
        ) from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`; renamed to `path`, flushed to disk, if the block succeeds.

    The name is fixed (`.<name>.part`), so that what a killed run left is overwritten by the next.

    Raises:
        OutputError: see `writing`; there is no temporary file then, and `path` is as it was.
    """
    temporary = _temporary(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        try:
            yield temporary
            _flush(temporary)
            temporary.replace(path)
            _flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def discard(path: Path) -> None:
    """Remove a file, and what a killed run left of it."""
    for name in (path, _temporary(path)):
        name.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically; an equal file is left alone, its time as well."""
    content = text.encode()
    if not path.is_file() or path.read_bytes() != content:
        write_bytes(path, content)


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
        "cores": cpu_budget(),
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


def cpu_budget() -> int:
    """Cores that this process may keep busy, at least 1: not what the machine has.

    The least of its affinity, of the quota of its cgroup (containers, Kubernetes) and of what
    Slurm granted its task.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    granted = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE") or ""
    slurm = int(granted) if granted.isdigit() else None
    known = [cores for cores in (affinity, _cgroup_cores(), slurm) if cores]
    return max(1, min(known, default=1))


def _cgroup_cores(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The CPU quota of the cgroup (version 2, then 1) in cores, rounded up; None: no quota.

    The group's own folder and all above it count: a quota of any of them holds.
    """
    quotas = []
    for folder in _cgroup_folders(root):
        try:
            if (folder / "cpu.max").is_file():
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota = (folder / "cpu.cfs_quota_us").read_text()
                period = (folder / "cpu.cfs_period_us").read_text()
            if quota.strip() != "max" and int(quota) > 0:
                quotas.append(-(-int(quota) // int(period)))
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return min(quotas, default=None)


def _cgroup_folders(root: Path) -> list[Path]:
    """Folders of the process's own group and of those above it, in both versions' layouts."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    folders = [root, root / "cpu"]
    for line in lines:
        controllers, path = line.split(":", 2)[1:]
        base = root if not controllers else root / "cpu"
        if not controllers or "cpu" in controllers.split(","):
            own = base / path.lstrip("/")
            folders += [own, *(p for p in own.parents if root in p.parents)]
    return list(dict.fromkeys(folders))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown"
