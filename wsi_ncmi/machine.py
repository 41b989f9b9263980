"""The machine: cores, memory, GPU, and the versions of packages."""

import os
import platform
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

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

    The least of its affinity, of its container's CPU quota (both by joblib) and of what Slurm
    granted its task.
    """
    import joblib  # takes a tenth of a second, and the Snakefile imports this module

    granted = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE") or ""
    slurm = int(granted) if granted.isdigit() else 0
    return max(1, min(joblib.cpu_count(), slurm or sys.maxsize))


@dataclass(frozen=True)
class MemoryLimit:
    """Bytes that somebody allows, and how many of them are left."""

    by: str
    limit: int
    left: int


def free_memory() -> int:
    """Bytes of memory that can be taken: without swapping, and without being killed for it.

    The least of what the machine has, its control groups (containers, Slurm) allow, and Slurm has
    granted.
    """
    allowed = [limit.left for limit in memory_limits()]
    return max(0, min([int(psutil.virtual_memory().available), *allowed]))


def memory_limits() -> list[MemoryLimit]:
    """Of control groups of either version, and of Slurm, which may not enforce its own."""
    limits = [limit for group in _control_groups() if (limit := _group_limit(group)) is not None]
    granted = _slurm_memory()
    if granted:
        used = int(psutil.Process().memory_info().rss)
        limits.append(MemoryLimit("Slurm", granted, granted - used))
    return limits


def _control_groups() -> list[Path]:
    """This process's groups with memory controllers, and all above them: each may limit it."""
    try:
        lines = CGROUP_OF_PROCESS.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = CGROUPS / "memory" if controllers else CGROUPS
        # In a container, the path may be that outside, and the root the container's own group.
        parts = Path(path.lstrip("/")).parts
        found += [root.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]
    return found


def _group_limit(group: Path) -> MemoryLimit | None:
    for limit, used, prefix in CGROUP_FILES:
        try:
            most, taken = int((group / limit).read_text()), int((group / used).read_text())
            words = (group / "memory.stat").read_text().split()
        except (OSError, ValueError):  # no such group, or "max"
            continue
        if most < UNLIMITED:
            stated = dict(zip(words[::2], words[1::2], strict=False))
            # Pages of files, such as the cache of bags, are given up where memory is needed.
            pages = sum(int(stated.get(f"{prefix}{k}_file", 0)) for k in ("inactive", "active"))
            return MemoryLimit("the control group", most, most - taken + pages)
    return None


def _slurm_memory() -> int:
    """Bytes that Slurm granted on this node; 0: it says nothing, or all of it."""
    for memory, count in SLURM_MEMORY:
        granted, parts = os.environ.get(memory, ""), os.environ.get(count, "1") if count else "1"
        if granted.isdigit() and parts.isdigit():
            return int(granted) * int(parts) * 1024**2
    return 0


CGROUPS = Path("/sys/fs/cgroup")
CGROUP_OF_PROCESS = Path("/proc/self/cgroup")
# Version 2, then 1: files of the limit and of what is used, prefix of the group's whole in `stat`.
CGROUP_FILES = (
    ("memory.max", "memory.current", ""),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
)
UNLIMITED = 1 << 60
"""Bytes; version 1 says so by a number above."""
# In MiB; each is set where the job was asked for memory in this way.
SLURM_MEMORY = (
    ("SLURM_MEM_PER_NODE", ""),
    ("SLURM_MEM_PER_CPU", "SLURM_CPUS_ON_NODE"),
    ("SLURM_MEM_PER_GPU", "SLURM_GPUS_ON_NODE"),
)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown"
