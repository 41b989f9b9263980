"""Files below a folder: which there are, and whether any of them has changed."""

import os
from pathlib import Path

import pytest

from wsi_ncmi.files.tree import files_below, state_below


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("train/a/1.png", "train/b/1.png", "test/a/2.png", "notes.txt"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "data"


def test_names_of_all_files(root: Path) -> None:
    (root / ".DS_Store").touch()
    (root / "train" / ".cache").mkdir()
    (root / "train" / ".cache" / "3.png").touch()
    assert files_below(root) == ["notes.txt", "test/a/2.png", "train/a/1.png", "train/b/1.png"]


def test_links_are_followed_but_not_in_circles(root: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(root / "train")
    (root / "val").symlink_to(root / "train")
    (root / "train" / "up").symlink_to(root)
    (root / "train" / "a" / "gone.png").symlink_to(tmp_path / "nowhere")
    assert files_below(root) == [
        "notes.txt",
        "test/a/2.png",
        *("train/a/1.png", "train/b/1.png"),
        *("val/a/1.png", "val/b/1.png"),
    ]
    before = state_below(root)
    (tmp_path / "linked" / "a" / "1.png").write_text("another text")
    assert state_below(root) != before


def test_every_change_among_files_changes_the_state(root: Path) -> None:
    states = [state_below(root)]
    assert state_below(root) == states[0]
    image = root / "train/a/1.png"
    (root / "train/a/new.png").touch()
    states.append(state_below(root))
    image.write_text("other bytes")
    states.append(state_below(root))
    status = image.stat()
    image.write_text("same length")
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    states.append(state_below(root))
    image.rename(root / "train/a/0.png")
    states.append(state_below(root))
    (root / "train/a/0.png").rename(root / "train/b/0.png")
    states.append(state_below(root))
    (root / "train/b/0.png").unlink()
    states.append(state_below(root))
    (root / "test").rename(root / "val")
    states.append(state_below(root))
    assert len(set(states)) == len(states)


def test_hidden_files_change_nothing(root: Path) -> None:
    before = state_below(root)
    (root / "train" / ".DS_Store").write_text("a viewer was here")
    assert state_below(root) == before


def test_names_that_are_no_text(root: Path) -> None:
    before = state_below(root)
    Path(os.fsdecode(os.fsencode(root) + b"/train/a/\xff.png")).touch()
    assert state_below(root) != before
    assert len(files_below(root)) == 5
