"""The cores that a process may use: what is granted, not what the machine has."""

import json
import os
import re
from pathlib import Path

import pytest

from wsi_ncmi import machine as this_machine
from wsi_ncmi.machine import cpu_budget

AFFINITY = set(range(64))


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """64 cores, no quota, no Slurm; `/proc/self/cgroup` and `/sys/fs/cgroup` are in `tmp_path`."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: AFFINITY, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.delenv("SLURM_CPUS_ON_NODE", raising=False)
    names = {"/proc/self/cgroup": tmp_path / "self", "/sys/fs/cgroup": tmp_path / "cgroup"}
    monkeypatch.setattr(this_machine, "Path", lambda path: names.get(str(path), Path(path)))
    limits = this_machine._cgroup_cores
    monkeypatch.setattr(this_machine, "_cgroup_cores", lambda: limits(tmp_path / "cgroup"))


def group(tmp_path: Path, line: str, **files: str) -> None:
    """The process's groups, and files below the tree: `a__cpu_max` is `a/cpu.max`."""
    (tmp_path / "self").write_text(line + "\n")
    for name, text in files.items():
        *folders, file = name.split("__")
        path = (tmp_path / "cgroup").joinpath(*folders)
        path.mkdir(parents=True, exist_ok=True)
        (path / file.replace("_", ".", 1) if "." not in file else path / file).write_text(
            text + "\n"
        )


def test_the_affinity_counts_not_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cpu_budget() == 64
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5, 9, 11})
    assert cpu_budget() == 3


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1), ("max 100000", 64)],
)
def test_a_quota_of_the_group(tmp_path: Path, quota: str, cores: int) -> None:
    group(tmp_path, "0::/", cpu_max=quota)
    assert cpu_budget() == cores


def test_a_quota_of_any_group_above_holds(tmp_path: Path) -> None:
    files = {"pod__cpu_max": "400000 100000", "pod__own__cpu_max": "800000 100000"}
    group(tmp_path, "0::/pod/own", cpu_max="max 100000", **files)
    assert cpu_budget() == 4
    group(tmp_path, "0::/pod/own", pod__own__cpu_max="300000 100000")
    assert cpu_budget() == 3


def test_a_quota_of_another_group_does_not(tmp_path: Path) -> None:
    group(tmp_path, "0::/pod/own", pod__other__cpu_max="100000 100000")
    assert cpu_budget() == 64


@pytest.mark.parametrize("folder", ["", "docker__"])
def test_the_first_version_of_cgroups(tmp_path: Path, folder: str) -> None:
    files = {f"cpu__{folder}cpu_cfs_quota_us": "250000", f"cpu__{folder}cpu_cfs_period_us": "50000"}
    files = {name.replace("cpu_cfs", "cpu.cfs"): text for name, text in files.items()}
    group(tmp_path, "4:cpu,cpuacct:/docker\n3:memory:/docker", **files)
    assert cpu_budget() == 5
    group(tmp_path, "4:cpu,cpuacct:/docker", **dict.fromkeys(list(files)[:1], "-1"))
    assert cpu_budget() == 64


def test_junk_is_no_quota(tmp_path: Path) -> None:
    group(tmp_path, "0::/", cpu_max="many of them")
    assert cpu_budget() == 64
    group(tmp_path, "0::/", cpu_max="100000 0")
    assert cpu_budget() == 64


def test_slurm_grants_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "16")
    assert cpu_budget() == 16
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    assert cpu_budget() == 8
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "")
    assert cpu_budget() == 16
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "500")
    assert cpu_budget() == 64


def test_the_least_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "12")
    group(tmp_path, "0::/", cpu_max="600000 100000")
    assert cpu_budget() == 6
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1})
    assert cpu_budget() == 1


def test_without_affinity_the_machine_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cpu_budget() == 128
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cpu_budget() == 1


def test_nothing_else_asks_for_the_machines_cores(root: Path) -> None:
    users = {p.name for p in (root / "wsi_ncmi").rglob("*.py") if "cpu_count" in p.read_text()}
    assert users <= {"machine.py"}  # the latter prints both numbers


def test_machine_names_versions() -> None:
    machine = this_machine.machine()
    assert json.loads(json.dumps(machine)) == machine
    assert machine["cores"] >= 1
    assert re.match(r"\d+\.\d+", machine["packages"]["torch"])
    assert this_machine.package_version("no-such-package") == "not installed"
