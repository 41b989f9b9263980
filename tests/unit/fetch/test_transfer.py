"""Fetching one object through what networks and servers do."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_s3 import BUCKET, Fault, Proxy, busy, cut, moto_address, s3, short, stalled, wrong

from wsi_ncmi.config import Fetch
from wsi_ncmi.errors import AbsentError, UnreachableError
from wsi_ncmi.fetch import transfer as transfers
from wsi_ncmi.fetch.checksums import Expected
from wsi_ncmi.fetch.source import source_of
from wsi_ncmi.fetch.transfer import facts_of, transfer

__all__ = ["moto_address", "s3"]

BODY = np.random.default_rng(0).bytes(3_400_000)  # four parts of 1 MB, the last one shorter
ADDRESS = f"s3://{BUCKET}/CAMELYON17/images/a.tif"
MD5 = Expected("md5", hashlib.md5(BODY).hexdigest(), "checksums.md5")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "FIRST_PAUSE", 0.01)


def settings(s3: Proxy, **keys: Any) -> Fetch:
    given = {"endpoint": s3.endpoint, "part_mb": 1, "connections": 4, "tries": 3, **keys}
    return Fetch.model_validate(given)


def fetch(s3: Proxy, path: Path, expected: Expected = MD5, **keys: Any) -> None:
    used = settings(s3, **keys)
    source = source_of(ADDRESS, used)
    transfer(source, facts_of(source, used), path, expected, used)


@pytest.mark.parametrize(
    "faults",
    [[], [cut], [short], [busy, busy], [stalled], [cut, short, busy, wrong]],
    ids=["none", "cut", "short", "busy", "stalled", "all"],
)
def test_whatever_happens_the_bytes_are_right(
    s3: Proxy, tmp_path: Path, faults: list[Fault]
) -> None:
    s3.put("CAMELYON17/images/a.tif", BODY)
    s3.faults = [*faults]
    fetch(s3, tmp_path / "a.tif", stalled_seconds=0.5)
    assert (tmp_path / "a.tif").read_bytes() == BODY
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]
    again = 4 if wrong in faults else 0  # the whole, because of a wrong checksum
    assert len(s3.parts) == 4 + sum(f is not wrong for f in faults) + again


def test_wrong_bytes_are_never_given_a_name(s3: Proxy, tmp_path: Path) -> None:
    s3.put("CAMELYON17/images/a.tif", BODY)
    expected = Expected("md5", "0" * 32, "checksums.md5")
    with pytest.raises(UnreachableError, match=r"a\.tif: md5 is \w+, checksums\.md5 says 0{32}, 2"):
        fetch(s3, tmp_path / "a.tif", expected)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_stays_busy_is_given_up_and_gone_on_with(s3: Proxy, tmp_path: Path) -> None:
    s3.put("CAMELYON17/images/a.tif", BODY)
    s3.faults = [*[lambda *_: False] * 2, *[busy] * 3]
    with pytest.raises(UnreachableError, match=r"cannot be fetched: .*503.*\(3 tries\)"):
        fetch(s3, tmp_path / "a.tif", connections=1)
    assert not (tmp_path / "a.tif").exists()
    s3.seen.clear()
    s3.faults = []
    fetch(s3, tmp_path / "a.tif", connections=1)
    assert s3.parts == ["bytes=2000000-2999999", "bytes=3000000-3399999"]
    assert (tmp_path / "a.tif").read_bytes() == BODY


def test_another_object_under_the_name_is_fetched_from_the_start(s3: Proxy, tmp_path: Path) -> None:
    s3.put("CAMELYON17/images/a.tif", BODY[::-1])
    s3.faults = [lambda *_: False, *[busy] * 3]
    with pytest.raises(UnreachableError):
        fetch(s3, tmp_path / "a.tif", connections=1)
    s3.put("CAMELYON17/images/a.tif", BODY)
    fetch(s3, tmp_path / "a.tif")
    assert (tmp_path / "a.tif").read_bytes() == BODY


def test_an_object_that_changes_meanwhile_is_not_mixed(s3: Proxy, tmp_path: Path) -> None:
    s3.put("CAMELYON17/images/a.tif", BODY[::-1])

    def replace(*_: Any) -> bool:
        s3.put("CAMELYON17/images/a.tif", BODY)
        return False

    s3.faults = [lambda *_: False, replace]
    with pytest.raises(UnreachableError, match="it changed while it was fetched"):
        fetch(s3, tmp_path / "a.tif", Expected(), connections=1)
    assert list(tmp_path.iterdir()) == []
    fetch(s3, tmp_path / "a.tif")
    assert (tmp_path / "a.tif").read_bytes() == BODY


def test_what_is_not_there_is_said_at_once(s3: Proxy) -> None:
    used = settings(s3)
    with pytest.raises(AbsentError, match=rf"s3://{BUCKET}/none\.tif: no such object .*404"):
        facts_of(source_of(f"s3://{BUCKET}/none.tif", used), used)
    assert len(s3.seen) == 1
    s3.put("private.tif", b"x", public=False)
    with pytest.raises(UnreachableError, match=r"private\.tif: cannot be fetched: .*403"):
        facts_of(source_of(f"s3://{BUCKET}/private.tif", used), used)


def test_https_addresses_and_mirrors(s3: Proxy, tmp_path: Path) -> None:
    s3.put("CAMELYON17/images/a.tif", BODY)
    mirror = {f"s3://{BUCKET}": f"{s3.endpoint}/{BUCKET}"}
    fetch(s3, tmp_path / "a.tif", endpoint=None, mirrors=mirror)
    assert (tmp_path / "a.tif").read_bytes() == BODY
    folder = tmp_path / "a mirror" / "CAMELYON17" / "images"
    folder.mkdir(parents=True)
    (folder / "a.tif").write_bytes(BODY)
    s3.seen.clear()
    fetch(s3, tmp_path / "b.tif", mirrors={f"s3://{BUCKET}/": str(tmp_path / "a mirror")})
    assert (tmp_path / "b.tif").read_bytes() == BODY
    assert s3.seen == []
