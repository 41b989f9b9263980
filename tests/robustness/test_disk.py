"""A full disk and a folder that cannot be written to: a clear error, and nothing is spoiled."""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_bags import Memory

from wsi_ncmi.bags.foreign.discover import FoundBag
from wsi_ncmi.bags.foreign.layouts import ForeignBag
from wsi_ncmi.bags.foreign.repack import Inspected, inspect, write_packed
from wsi_ncmi.bags.packing import SourceBag, write_cache
from wsi_ncmi.config import Extraction, Tiling
from wsi_ncmi.errors import OutputError
from wsi_ncmi.files.atomic import write_text
from wsi_ncmi.stages import features, tiles

FRACTIONS = [0, 1, 96, 512, 800, 1024, 2048, 3000, 4096, 5000, 6144, 7000, 7600, 8192, 9500]
MEND = "mend that and give the same command again; what is finished is kept"


@pytest.mark.parametrize("kind", ["bag", "tiles", "picture", "text"])
def test_a_file_is_whole_or_the_old_one_whatever_fits(stages: Any, kind: str) -> None:
    """The limit strikes as HDF5 creates, writes and closes, and within a picture and a text."""
    (size,) = {report["size"] for report in stages("fill_one", kind=kind, limits=[10**6])}
    limits = sorted({limit for limit in FRACTIONS if limit < size} | {size // 2, size - 1, size})
    for report in stages("fill_one", kind=kind, limits=limits):
        assert (report["exit"], report["ended"], report["left"]) == (0, True, []), report
        if report["limit"] == size:
            assert report["file"] == "new"
            continue
        assert report["file"] == "old", report
        assert report.get("error") == "OutputError", report
        assert report["user_error"]
        assert f"/{kind}: cannot be written: File too large: {MEND}" in report["text"]


FAIL_AND_END = """
import resource, sys
from pathlib import Path
sys.path.append(sys.argv[1])
from robustness.stage_limits import writer
from wsi_ncmi.errors import OutputError
write, limit = writer(sys.argv[2]), int(sys.argv[4])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
for number in range(5):
    try:
        write(Path(sys.argv[3], f"{number}.h5"), number)
    except OutputError:
        print("refused", flush=True)
"""


@pytest.mark.parametrize("kind", ["bag", "tiles"])
@pytest.mark.parametrize("limit", [1000, 6000])
def test_a_process_whose_write_failed_ends_in_order(
    kind: str, limit: int, root: Path, tmp_path: Path
) -> None:
    """HDF5 that could not write a file out crashes at the next close, or as the process ends."""
    arguments = [str(root / "tests"), kind, str(tmp_path), str(limit)]
    command = [sys.executable, "-c", FAIL_AND_END, *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["refused"] * 5


@pytest.mark.parametrize(
    ("stage", "limits"), [("features", [0, 2000, 6000]), ("tiles", [500, 6000])]
)
def test_a_stage_on_a_full_disk(stages: Any, stage: str, limits: list[int]) -> None:
    for report in stages("fill", stage=stage, limits=limits):
        assert (report["exit"], report["ended"]) == (0, True), report
        assert report.get("error") == "OutputError", report
        assert ": cannot be written: File too large" in report["text"]
        assert report["wrong"] == [], "half a file, or a temporary one"
        assert report["touched"] == [], "finished slides were written again"
        assert report["again"] == [""], "with space again, it gives the bytes of a clean run"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, timeout=10, check=False)
    except FileNotFoundError:
        pytest.skip("no mount command")
    if done.returncode:
        pytest.skip("mounting is not permitted")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True, timeout=10)


def test_a_file_system_that_is_full(stages: Any, small_disk: Path) -> None:
    report = stages("run_into", stage="features", out=str(small_disk / "bags"))
    assert (report["error"], report["exit"]) == ("OutputError", 0), report
    assert ": cannot be written: No space left on device" in report["text"]
    assert report["whole"] > 0, "room was for some bags"
    assert report["wrong"] == []
    subprocess.run(["mount", "-o", "remount,size=10m", str(small_disk)], check=True, timeout=10)
    again = stages("run_into", stage="features", out=str(small_disk / "bags"))
    assert "error" not in again
    assert again["wrong"] == again["missing"] == []


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Files of at most so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 100, 128, 1000, 2000])
def test_packing_on_a_full_disk(tmp_path: Path, size: int) -> None:
    """A mapped file would end the process by SIGBUS."""
    write_cache(Memory(), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with (
        room_for(size),
        pytest.raises(OutputError, match=r"features\.npy: cannot be written: File too large"),
    ):
        write_cache(Memory(shift=2), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_packing_into_a_file_system_that_is_full(small_disk: Path) -> None:
    large = SourceBag("s", "ok", "", "d", np.ones((9000, 8), np.float16), np.ones((9000, 2)))
    source = Memory()
    source.bags = lambda: iter([replace(large, augmented=np.empty((0, 9000, 8)))])
    with pytest.raises(OutputError, match=r"features\.npy: cannot be written: No space left on"):
        write_cache(source, small_disk / "cache")
    assert list((small_disk / "cache").iterdir()) == []


def test_importing_on_a_full_disk(tmp_path: Path) -> None:
    """The space is taken before HDF5 writes: HDF5 could not stand that it is not there."""
    features = np.ones((500, 8), np.float32)
    bag = FoundBag("s", "s.pt", lambda: ForeignBag(features, None, "none"))
    inspected = inspect(bag)
    assert isinstance(inspected, Inspected)
    with room_for(10_000), pytest.raises(OutputError, match="File too large"):
        write_packed(tmp_path / "packed.h5", [inspected], {}, {})
    assert list(tmp_path.iterdir()) == []


def run_features(out: Path) -> None:
    extraction = Extraction(encoder="random_resnet", options={"architecture": "test_resnet"})
    features.run([], extraction, out / "tiles", out, out / "bucket-0.tsv", 1)


def run_tiles(out: Path) -> None:
    tiles.run([], Tiling(mpp=2.0, tile_px=64), out, out / "bucket-0.tsv", 1)


@pytest.mark.parametrize("run", [run_features, run_tiles])
def test_a_folder_on_a_read_only_file_system(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def read_only(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        if str(path).startswith(str(tmp_path)) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(OutputError, match=f"{tmp_path}/.*Read-only file system: {MEND}"):
        run(tmp_path)


@pytest.mark.parametrize("run", [run_features, run_tiles])
def test_a_folder_that_is_not_ours(run: Any, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("permissions do not hold root")
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match=f"Permission denied: {MEND}"):
        run(tmp_path / "new")


def test_a_folder_under_a_file(tmp_path: Path) -> None:
    """Not a matter of space or rights: the name of the path is in the system's own error."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=str(tmp_path / "file")):
        write_text(tmp_path / "file" / "out.txt", "text")


def test_a_manifest_of_junk_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / "m.tsv").write_bytes(b"\xff\xfe\x00junk")
    write_text(tmp_path / "m.tsv", "slide_id\n")
    assert (tmp_path / "m.tsv").read_bytes() == b"slide_id\n"
