import json
import os
import re
from pathlib import Path

import pytest

from wsi_ncmi import provenance
from wsi_ncmi.provenance import (
    atomic_path,
    digest,
    fingerprint,
    sha256_file,
    write_json,
    write_text,
)


def test_digest_depends_on_content_and_not_on_order() -> None:
    value = {"a": 1, "b": [1.5, "µm", None]}
    assert digest(value) == digest(dict(reversed(value.items())))
    assert re.fullmatch("[0-9a-f]{32}", digest(value))
    assert len({digest(v) for v in (value, {"a": 1}, {"a": "1"}, {"a": 1.5}, [], {})}) == 6


def test_digest_does_not_change_between_versions() -> None:
    """Bags on disk carry it: another value would compute everything again."""
    assert digest({"a": 1, "b": "µm"}) == "e4a3ba9fd1322af620a2cece41432a4e"


def test_sha256_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    assert sha256_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("size", [0, 1, 5_000, 1_000_000])
def test_fingerprint_is_of_content(tmp_path: Path, size: int) -> None:
    path, other = tmp_path / "a.tif", tmp_path / "b.svs"
    content = bytes(i * 31 % 251 for i in range(size))
    path.write_bytes(content)
    other.write_bytes(content)
    os.utime(other, (0, 0))
    assert fingerprint(path) == fingerprint(other)
    other.write_bytes(content + b"x")
    assert fingerprint(path) != fingerprint(other)


@pytest.mark.parametrize("at", [0, 65_535, 500_000, 934_464, 999_999])
def test_fingerprint_sees_a_change_at_both_ends_and_within(tmp_path: Path, at: int) -> None:
    path = tmp_path / "a.tif"
    content = bytearray(1_000_000)
    path.write_bytes(content)
    before = fingerprint(path)
    content[at : at + 1] = b"x"
    path.write_bytes(content)
    assert fingerprint(path) != before


def test_atomic_path_makes_folders_and_renames(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "out.txt"
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.name.startswith(".")
        temporary.write_text("done")
        assert not path.exists()
    assert path.read_text() == "done"
    assert [p.name for p in path.parent.iterdir()] == ["out.txt"]


@pytest.mark.parametrize("before", [None, "old"])
def test_atomic_path_leaves_nothing_on_failure(tmp_path: Path, before: str | None) -> None:
    path = tmp_path / "out.txt"
    if before is not None:
        path.write_text(before)

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ([] if before is None else ["out.txt"])
    assert before is None or path.read_text() == before


def test_atomic_path_overwrites_what_a_killed_run_left(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    with atomic_path(path) as temporary:
        name = temporary.name
        temporary.write_text("a")
    (tmp_path / name).write_text("left by a killed run")
    with atomic_path(path) as temporary:
        assert not temporary.exists()
        temporary.write_text("b")
    assert path.read_text() == "b"
    assert [p.name for p in tmp_path.iterdir()] == ["out.txt"]


def test_atomic_path_flushes_before_it_renames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    path = tmp_path / "out.txt"
    monkeypatch.setattr(provenance.os, "fsync", lambda _: seen.append(path.exists()))
    with atomic_path(path) as temporary:
        temporary.write_text("x")
    assert seen == [False, True]  # the file before the rename, its folder after


def test_atomic_path_wants_a_file(tmp_path: Path) -> None:
    def write_nothing() -> None:
        with atomic_path(tmp_path / "out.txt"):
            pass

    with pytest.raises(FileNotFoundError):
        write_nothing()
    assert list(tmp_path.iterdir()) == []


def test_equal_text_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    write_text(path, "µm\n")
    os.utime(path, (1, 1))
    write_text(path, "µm\n")
    assert path.stat().st_mtime == 1
    write_text(path, "mm\n")
    assert path.stat().st_mtime > 1
    assert path.read_text() == "mm\n"


def test_json_is_readable_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"unit": "µm", "values": [1, None]})
    assert json.loads(path.read_text()) == {"unit": "µm", "values": [1, None]}
    assert "µm" in path.read_text()
    os.utime(path, (1, 1))
    write_json(path, {"unit": "µm", "values": [1, None]})
    assert path.stat().st_mtime == 1


def test_machine_names_versions() -> None:
    machine = provenance.machine()
    assert json.loads(json.dumps(machine)) == machine
    assert machine["cores"] >= 1
    assert re.match(r"\d+\.\d+", machine["packages"]["torch"])
    assert provenance.package_version("no-such-package") == "not installed"


def test_every_stage_has_a_version() -> None:
    assert all(isinstance(v, int) and v > 0 for v in provenance.STAGE_VERSIONS.values())
