"""environment.yml, pyproject.toml and constraints.txt name the same packages and agree."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

# Packages that conda-forge keeps under another name.
CONDA_NAMES = {
    "torch": "pytorch",
    "opencv-python-headless": "opencv",
    "openslide-bin": "openslide",
    "tiffslide": "tiffslide",
}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def ranges(root: Path) -> dict[str, Requirement]:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return {_normal(r.name): r for r in map(Requirement, project["dependencies"])}


@pytest.fixture(scope="module")
def pins(root: Path) -> dict[str, Version]:
    lines = (root / "constraints.txt").read_text().split()
    pairs = (line.split("==") for line in lines)
    return {_normal(name): Version(version) for name, version in pairs}


@pytest.fixture(scope="module")
def conda(root: Path) -> dict[str, Requirement]:
    content = yaml.safe_load((root / "environment.yml").read_text())
    found = (Requirement(line.replace(" ", "")) for line in content["dependencies"])
    return {_normal(r.name): r for r in found}


def test_every_dependency_is_pinned_within_its_range(
    ranges: dict[str, Requirement], pins: dict[str, Version]
) -> None:
    for name, requirement in ranges.items():
        assert name in pins, f"constraints.txt does not pin {name}"
        assert requirement.specifier.contains(pins[name]), f"{name} {pins[name]}: {requirement}"


def test_the_conda_environment_has_every_dependency_in_the_same_range(
    ranges: dict[str, Requirement], conda: dict[str, Requirement]
) -> None:
    expected = {CONDA_NAMES.get(name, name): r.specifier for name, r in ranges.items()}
    found = {name: r.specifier for name, r in conda.items() if name != "python"}
    assert found == expected


def test_python_is_the_same_everywhere(root: Path, conda: dict[str, Requirement]) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert str(conda["python"].specifier) == project["requires-python"]


def test_the_channels_are_community_ones(root: Path) -> None:
    content = yaml.safe_load((root / "environment.yml").read_text())
    assert content["channels"] == ["conda-forge", "bioconda", "nodefaults"]


def test_both_images_are_made_alike(root: Path) -> None:
    """Of the same system, with the same packages of it, from the same files of the project."""
    docker, apptainer = ((root / n).read_text() for n in ("Dockerfile", "apptainer.def"))
    (base,) = re.findall(r"^FROM (\S+)$", docker, re.M)
    assert re.findall(r"^From: (\S+)$", apptainer, re.M) == [base]
    install = r"--no-install-recommends ([\w -]+?)(?: \\)?$"
    assert re.findall(install, docker, re.M) == re.findall(install, apptainer, re.M) != []
    copied = {
        name for line in re.findall(r"^COPY (.+)$", docker, re.M) for name in line.split()[:-1]
    }
    files = dict(re.findall(r"^    (\S+) (/opt/source/\S+)$", apptainer, re.M))
    assert files == {name: f"/opt/source/{name}" for name in copied}
    kept = (root / ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in kept if line.startswith("!")} == copied
