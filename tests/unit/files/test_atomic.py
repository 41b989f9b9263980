import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wsi_ncmi.files.atomic import atomic_path, sweep, swept, write_json, write_text


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
        assert temporary.read_bytes() == b""
        temporary.write_text("b")
    assert path.read_text() == "b"
    assert [p.name for p in tmp_path.iterdir()] == ["out.txt"]


def test_atomic_path_flushes_before_it_renames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    path = tmp_path / "out.txt"
    monkeypatch.setattr(os, "fsync", lambda _: seen.append(path.exists()))
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


def test_writers_of_one_file_take_turns(tmp_path: Path) -> None:
    """Another process waits until we are done, and then writes the whole file again."""
    path = tmp_path / "out.txt"
    code = f"""
from pathlib import Path
from wsi_ncmi.files.atomic import atomic_path
print("begun", flush=True)
with atomic_path(Path({str(path)!r})) as temporary:
    temporary.write_text("theirs")
"""
    with atomic_path(path) as temporary:
        temporary.write_text("half of ours")
        other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None
        assert other.stdout.readline() == "begun\n"
        time.sleep(0.3)
        assert other.poll() is None
        assert temporary.read_text() == "half of ours"
        temporary.write_text("ours")
    assert other.wait(20) == 0
    assert path.read_text() == "theirs"
    assert [p.name for p in tmp_path.iterdir()] == ["out.txt"]


def test_a_writer_that_was_killed_holds_up_nobody(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    code = f"""
import os, signal
from pathlib import Path
from wsi_ncmi.files.atomic import atomic_path
with atomic_path(Path({str(path)!r})) as temporary:
    temporary.write_text("half" * 1000)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert [p.name for p in tmp_path.iterdir()] == [".out.txt.part"]
    with atomic_path(path) as temporary:
        assert temporary.read_text() == ""
        temporary.write_text("whole")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("out.txt", "whole")]


def test_what_killed_writers_left_is_swept_and_what_is_written_stays(tmp_path: Path) -> None:
    left = tmp_path / "overlays" / ".a.jpg.part"
    left.parent.mkdir()
    left.write_text("half")
    other = tmp_path / ".hidden"
    other.touch()
    with atomic_path(tmp_path / "b.txt") as temporary:
        temporary.write_text("whole")
        sweep(tmp_path)
        assert temporary.exists()
    assert not left.exists()
    assert other.exists()
    assert (tmp_path / "b.txt").read_text() == "whole"


def test_work_that_fails_is_swept_too(tmp_path: Path) -> None:
    """Processes are killed in the middle of a file where another one cannot write."""
    (tmp_path / ".slide.jpg.part").touch()
    with pytest.raises(KeyError), swept(tmp_path):
        raise KeyError
    assert list(tmp_path.iterdir()) == []
