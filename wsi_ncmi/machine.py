"""The machine: cores, memory, GPU, and the versions of packages."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

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
