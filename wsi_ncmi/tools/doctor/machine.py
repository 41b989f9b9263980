"""What `doctor` asks of the machine: GPU, processor, memory, disk."""

import fcntl
import os
import shutil
from pathlib import Path

import psutil

from wsi_ncmi.files.atomic import atomic_path
from wsi_ncmi.machine import cpu_budget, free_memory, has_gpu, memory_limits
from wsi_ncmi.tools.doctor.findings import Finding, Status

DRIVER = Path("/proc/driver/nvidia/version")
LITTLE_MEMORY = 4e9
LITTLE_DISK = 10e9


def gpu() -> list[Finding]:
    """The GPUs that PyTorch sees, or why it sees none."""
    import torch

    if torch.cuda.is_available():
        return [_device(i) for i in range(torch.cuda.device_count())]
    if not has_gpu():
        detail = "none: encoding and training run on the processor"
        return [Finding("machine", "gpu", "warn", detail, "use a machine with an NVIDIA GPU")]
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None:
        detail = f"the driver is there, but CUDA_VISIBLE_DEVICES is {hidden!r}"
        return [Finding("machine", "gpu", "missing", detail, "unset it, or ask Slurm for a GPU")]
    build = torch.version.cuda
    made = f"CUDA {build}" if build else "the processor alone"
    detail = f"the driver is there ({_driver()}), but PyTorch (made for {made}) sees no GPU"
    remedy = "install the PyTorch that fits the driver: pytorch.org/get-started/locally"
    return [Finding("machine", "gpu", "missing", detail, remedy)]


def _device(index: int) -> Finding:
    import torch

    facts = torch.cuda.get_device_properties(index)
    bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16: extraction.autocast is fp16"
    detail = f"{facts.name}, {facts.total_memory / 1e9:.0f} GB, {bf16}, {_driver()}"
    return Finding("machine", f"gpu {index}", "ok", detail)


def _driver() -> str:
    if not DRIVER.is_file():
        return "driver not stated"
    words = DRIVER.read_text().splitlines()[0].split()
    versions = [word for word in words if word[:1].isdigit() and "." in word]
    return f"driver {versions[0]}" if versions else "driver not stated"


def processor() -> list[Finding]:
    """Cores that this process may keep busy, and what it would have without limits."""
    total, usable = os.cpu_count() or 1, cpu_budget()
    parts = [f"{usable} may be used (affinity, control group and Slurm) of {total} in the machine"]
    threads = os.environ.get("OMP_NUM_THREADS")
    status: Status = "ok"
    if threads is not None and threads.isdigit() and int(threads) > usable:
        parts.append(f"OMP_NUM_THREADS is {threads}, which is more")
        status = "warn"
    remedy = f"unset OMP_NUM_THREADS, or set it to {usable}"
    return [Finding("machine", "cores", status, "; ".join(parts), remedy)]


def memory() -> list[Finding]:
    """Memory that is free, and the limits of control groups and Slurm."""
    found = psutil.virtual_memory()
    detail = f"{found.available / 1e9:.1f} of {found.total / 1e9:.1f} GB are free"
    for limit in memory_limits():
        detail += f", {max(0, limit.left) / 1e9:.1f} of {limit.limit / 1e9:.1f} GB by {limit.by}"
    status: Status = "warn" if free_memory() < LITTLE_MEMORY else "ok"
    return [Finding("machine", "memory", status, detail, "a tiling job asks for 4 GB")]


def disk(folder: Path) -> list[Finding]:
    """Space, and whether files can be written, flushed, renamed and locked there."""
    if not folder.is_dir():
        detail = f"{folder}: no such folder"
        return [Finding("machine", "disk", "missing", detail, "make it first", needed=True)]
    free = shutil.disk_usage(folder).free
    status: Status = "warn" if free < LITTLE_DISK else "ok"
    remedy = "bags take 2 kB a tile at 1024 features; see `wsi-ncmi plan`"
    space = Finding("machine", "disk", status, f"{folder}: {free / 1e9:.1f} GB are free", remedy)
    return [space, _writing(folder), _locking(folder)]


def _writing(folder: Path) -> Finding:
    path = folder / f".wsi-ncmi-doctor-{os.getpid()}"
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"doctor")
        right = path.read_bytes() == b"doctor"
    except OSError as error:
        detail, remedy = f"cannot write in {folder}: {error}", "choose another --folder"
        return Finding("machine", "write", "missing", detail, remedy, needed=True)
    finally:
        path.unlink(missing_ok=True)
    detail = "writes, flushes and renames" if right else "gives back other bytes"
    result: Status = "ok" if right else "missing"
    return Finding("machine", "write", result, detail, "check the disk", needed=True)


def _locking(folder: Path) -> Finding:
    path = folder / f".wsi-ncmi-doctor-lock-{os.getpid()}"
    try:
        with path.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        remedy = "set HDF5_USE_FILE_LOCKING=FALSE, or use a file system that has locks"
        return Finding("machine", "lock", "missing", f"no file locks: {error}", remedy, needed=True)
    finally:
        path.unlink(missing_ok=True)
    return Finding("machine", "lock", "ok", "locks files")
