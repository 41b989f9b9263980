import os
import re
from pathlib import Path

import pytest

from wsi_ncmi import provenance
from wsi_ncmi.provenance import digest, fingerprint, sha256_file


def test_digest_depends_on_content_and_not_on_order() -> None:
    value = {"a": 1, "b": [1.5, "µm", None]}
    assert digest(value) == digest(dict(reversed(value.items())))
    assert re.fullmatch("[0-9a-f]{32}", digest(value))
    assert len({digest(v) for v in (value, {"a": 1}, {"a": "1"}, {"a": 1.5}, [], {})}) == 6


def test_digest_does_not_change_between_versions() -> None:
    """Bags on disk carry it: another value would compute everything again."""
    assert digest({"a": 1, "b": "µm"}) == "e4a3ba9fd1322af620a2cece41432a4e"


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


def test_every_stage_has_a_version() -> None:
    assert all(isinstance(v, int) and v > 0 for v in provenance.STAGE_VERSIONS.values())


def test_sha256_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    assert sha256_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
