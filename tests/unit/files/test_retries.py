"""What a step that could not reach a source leaves for the next run."""

import os
from pathlib import Path

from wsi_ncmi.files.retries import Retries, is_newer, note_retries, retries


def test_a_step_that_reaches_all_leaves_no_note(tmp_path: Path) -> None:
    note_retries(tmp_path, lacking=False)
    assert list(tmp_path.iterdir()) == []
    assert retries(tmp_path) == Retries(0, lacking=False)
    assert not is_newer(tmp_path, tmp_path / "stamp")


def test_each_try_is_another_one_until_nothing_is_lacking(tmp_path: Path) -> None:
    """The number stands in the params of the rule: it must not change once all is there."""
    tries = []
    for lacking in (True, True, False, False):
        note_retries(tmp_path, lacking=lacking)
        tries.append(retries(tmp_path).tries)
    assert tries == [1, 2, 2, 2]


def test_what_was_made_before_a_retry_is_not_settled(tmp_path: Path) -> None:
    stamp = tmp_path / "stamp"
    note_retries(tmp_path, lacking=True)
    stamp.write_text("made without the lacking bag")
    os.utime(stamp, ns=(2**62, 2**62))
    assert is_newer(tmp_path, stamp)  # the next run is to look again
    note_retries(tmp_path, lacking=False)
    assert not is_newer(tmp_path, stamp)
    os.utime(stamp, ns=(0, 0))
    assert is_newer(tmp_path, stamp)  # made before the retry, which may have found the bag
