"""Lists of MD5 sums, and which sum is a slide's."""

import hashlib
from pathlib import Path

import pytest

from wsi_ncmi.errors import ConfigError
from wsi_ncmi.fetch.checksums import Expected, expected_of, read_md5

A, B = "0" * 31 + "a", "0" * 31 + "b"


def test_a_list_as_md5sum_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "checksums.md5"
    path.write_text(f"{A}  images/a.tif\n{B} *./images/b c.tif\n\n")
    assert read_md5(path) == {"images/a.tif": A, "images/b c.tif": B}
    path.write_text(f"{A}  a.tif\n<html>\n")
    with pytest.raises(ConfigError, match=r"line 2: found '<html>', expected `<md5>  <path>`"):
        read_md5(path)
    with pytest.raises(ConfigError, match=r"none\.md5: no such file"):
        read_md5(tmp_path / "none.md5")


def test_the_longest_end_of_an_address_counts() -> None:
    md5 = {"a.tif": A, "images/a.tif": B}
    found = expected_of("s3://b/CAMELYON17/images/a.tif", "", md5, "list")
    assert found == Expected("md5", B, "list")
    assert expected_of("s3://b/masks/a.tif", "", md5, "list").value == A
    assert expected_of("s3://b/c.tif", "", md5, "list") == Expected()
    # The sheet's own counts more.
    assert expected_of("s3://b/a.tif", "f" * 64, md5, "list").kind == "sha256"


def test_a_wrong_sum_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"bytes")
    right = hashlib.sha256(b"bytes").hexdigest()
    assert Expected("sha256", right.upper(), "the sheet").problem(path) == ""
    assert Expected("sha256", A, "the sheet").problem(path).startswith(f"sha256 is {right}")
