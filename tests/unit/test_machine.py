"""The cores that a process may use: what is granted, not what the machine has."""

import json
import re
from pathlib import Path

import joblib
import pytest

from wsi_ncmi import machine as this_machine
from wsi_ncmi.machine import cpu_budget, free_memory


@pytest.fixture(autouse=True)
def granted(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 cores by affinity and quota, no Slurm."""
    monkeypatch.setattr(joblib, "cpu_count", lambda: 64)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.delenv("SLURM_CPUS_ON_NODE", raising=False)


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


def test_machine_names_versions() -> None:
    machine = this_machine.machine()
    assert json.loads(json.dumps(machine)) == machine
    assert machine["cores"] >= 1
    assert re.match(r"\d+\.\d+", machine["packages"]["torch"])
    assert this_machine.package_version("no-such-package") == "not installed"
