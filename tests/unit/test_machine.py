"""The cores that a process may use: what is granted, not what the machine has."""

import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import joblib
import numpy as np
import psutil
import pytest

from wsi_ncmi import machine as this_machine
from wsi_ncmi.bags import cache
from wsi_ncmi.machine import cpu_budget, free_memory, memory_limits


@pytest.fixture(autouse=True)
def granted(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 cores by affinity and quota, no Slurm."""
    monkeypatch.setattr(joblib, "cpu_count", lambda: 64)
    for name in os.environ:
        if name.startswith("SLURM_"):
            monkeypatch.delenv(name)


def test_affinity_and_quota_count(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cpu_budget() == 64
    monkeypatch.setattr(joblib, "cpu_count", lambda: 3)
    assert cpu_budget() == 3


def test_slurm_grants_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "16")
    assert cpu_budget() == 16
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    assert cpu_budget() == 8
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "")
    assert cpu_budget() == 16
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "500")
    assert cpu_budget() == 64


def test_nothing_else_asks_for_the_machines_cores(root: Path) -> None:
    users = {p.name for p in (root / "wsi_ncmi").rglob("*.py") if "cpu_count" in p.read_text()}
    assert users <= {"machine.py"}  # that of `doctor` too, which prints both numbers


def test_free_memory_is_a_part_of_the_machines() -> None:
    lines = Path("/proc/meminfo").read_text().splitlines()
    total = next(int(line.split()[1]) for line in lines if line.startswith("MemTotal"))
    assert 0 < free_memory() <= total * 1024


GB = 10**9


def group(folder: Path, version: int, limit: str, used: int, pages: int) -> None:
    """The files of a control group; `pages` of what it uses are of files."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {1: ("limit_in_bytes", "usage_in_bytes"), 2: ("max", "current")}[version]
    for name, content in zip(names, (limit, str(used)), strict=True):
        (folder / f"memory.{name}").write_text(content + "\n")
    prefix = {1: "total_", 2: ""}[version]
    stat = f"anon 7\n{prefix}inactive_file {pages // 2}\n{prefix}active_file {pages // 2}\n"
    (folder / "memory.stat").write_text(stat)


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where control groups lie, of a process in /job/step of version 2 and /box of version 1."""
    (tmp_path / "self").write_text("12:cpu:/other\n4:memory:/box\n0::/job/step\n")
    monkeypatch.setattr(this_machine, "CGROUP_OF_PROCESS", tmp_path / "self")
    monkeypatch.setattr(this_machine, "CGROUPS", tmp_path)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=64 * GB))
    return tmp_path


def test_memory_without_limits(groups: Path) -> None:
    assert free_memory() == 64 * GB
    group(groups / "job/step", 2, "max", 3 * GB, 0)
    group(groups / "memory/box", 1, str(2**63 - 4096), 3 * GB, 0)
    assert (memory_limits(), free_memory()) == ([], 64 * GB)


@pytest.mark.parametrize("place", ["job/step", "job", "."])
def test_every_control_group_above_limits_memory(groups: Path, place: str) -> None:
    group(groups / place, 2, str(8 * GB), 5 * GB, 2 * GB)
    assert free_memory() == 5 * GB  # 3 are left, and 2 are of files


@pytest.mark.parametrize("place", ["box", "."])
def test_control_groups_of_version_1(groups: Path, place: str) -> None:
    group(groups / "memory" / place, 1, str(8 * GB), 5 * GB, 0)
    assert free_memory() == 3 * GB


def test_more_used_than_allowed(groups: Path) -> None:
    group(groups / "job", 2, str(GB), 5 * GB, 0)
    assert free_memory() == 0


@pytest.mark.parametrize(
    ("granted", "mib"),
    [
        ({"SLURM_MEM_PER_NODE": "4000"}, 4000),
        ({"SLURM_MEM_PER_CPU": "2000", "SLURM_CPUS_ON_NODE": "3"}, 6000),
        ({"SLURM_MEM_PER_GPU": "9000", "SLURM_GPUS_ON_NODE": "2"}, 18000),
        ({"SLURM_MEM_PER_CPU": "2000"}, 2000),
        ({"SLURM_MEM_PER_NODE": "0"}, 0),
    ],
)
@pytest.mark.usefixtures("groups")
def test_what_slurm_granted(
    monkeypatch: pytest.MonkeyPatch, granted: dict[str, str], mib: int
) -> None:
    for name, value in granted.items():
        monkeypatch.setenv(name, value)
    used = SimpleNamespace(rss=GB)
    monkeypatch.setattr(psutil.Process, "memory_info", lambda _: used)
    assert free_memory() == (mib * 2**20 - GB if mib else 64 * GB)


@pytest.mark.parametrize(("free", "ahead"), [(10**9, True), (1000, False)])
def test_memory_decides_whether_bags_are_read_ahead(
    cache_folder: Path, monkeypatch: pytest.MonkeyPatch, free: int, ahead: bool
) -> None:
    """They are mapped in any case, so that the processes of a machine share them."""
    asked = []
    real = cache._mapped
    monkeypatch.setattr(cache, "free_memory", lambda: free)
    monkeypatch.setattr(cache, "_mapped", lambda p, ahead: asked.append(ahead) or real(p, ahead))
    assert isinstance(cache.BagCache(cache_folder).features, np.memmap)
    assert asked == [ahead, False]  # features, coords


def test_machine_names_versions() -> None:
    machine = this_machine.machine()
    assert json.loads(json.dumps(machine)) == machine
    assert machine["cores"] >= 1
    assert re.match(r"\d+\.\d+", machine["packages"]["torch"])
    assert this_machine.package_version("no-such-package") == "not installed"
