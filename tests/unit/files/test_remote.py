"""Files at addresses, read in ranges."""

from pathlib import Path

import numpy as np
import pytest
from made_s3 import BUCKET, Proxy, busy, cut, moto_address, s3

from wsi_ncmi.errors import AbsentError, UnreachableError
from wsi_ncmi.files.remote import AHEAD, object_at, open_remote
from wsi_ncmi.slides.reader import open_slide

__all__ = ["moto_address", "s3"]

BODY = np.random.default_rng(2).bytes(3 * AHEAD)


def test_it_reads_as_a_local_file_does(s3: Proxy, tmp_path: Path) -> None:
    s3.put("a.tif", BODY)
    (tmp_path / "a.tif").write_bytes(BODY)
    with (
        open_remote(f"{s3.endpoint}/{BUCKET}/a.tif") as far,
        (tmp_path / "a.tif").open("rb") as near,
    ):
        for offset, whence, count in ((100, 0, 7), (0, 1, 90_000), (-50, 2, 100), (5, 0, -1)):
            assert far.seek(offset, whence) == near.seek(offset, whence)
            assert far.read(count) == near.read(count)
            assert far.tell() == near.tell()
    assert len(s3.parts) < 8  # neighbours come together


def test_what_breaks_off_or_is_refused_is_asked_for_again(s3: Proxy) -> None:
    s3.put("a.tif", BODY)
    s3.faults = [busy, cut]
    with open_remote(f"{s3.endpoint}/{BUCKET}/a.tif") as file:
        assert file.read() == BODY


def test_credentials_are_used_where_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    config = object_at(f"s3://{BUCKET}/a.tif").store.config
    assert (config["skip_signature"], config["region"]) == ("true", "us-west-2")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    config = object_at(f"s3://{BUCKET}/a.tif").store.config
    assert "skip_signature" not in config
    assert config["region"] == "eu-west-1"


def test_what_is_not_there_is_said(s3: Proxy) -> None:
    with pytest.raises(AbsentError, match=r"none\.tif: no such object"):
        open_remote(f"{s3.endpoint}/{BUCKET}/none.tif")
    with pytest.raises(UnreachableError, match="is no address of a file"):
        open_remote("https://example.org")
    with pytest.raises(UnreachableError, match=r"none\.tif: no such"):
        open_slide(f"{s3.endpoint}/{BUCKET}/none.tif")
