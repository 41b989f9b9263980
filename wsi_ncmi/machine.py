"""The machine: cores, memory, GPU, and the versions of packages."""

import os
import platform
import sys
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


def free_memory() -> int:
    """Bytes of memory that can be taken without swapping."""
    return int(psutil.virtual_memory().available)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown"
