"""A job's own log: what several processes and libraries write to it."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wsi_ncmi import logs
from wsi_ncmi.processes import process_pool


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Those of the test run, afterwards."""
    top = logging.getLogger()
    before, level = top.handlers[:], top.level
    yield
    for handler in top.handlers:
        handler.close()
    top.handlers[:], top.level = before, level


def texts(path: Path) -> list[str]:
    """Lines without their time."""
    return [line.split(" ", 2)[-1] for line in path.read_text().splitlines()]


def test_the_file_has_everything_and_the_terminal_what_needs_attention(
    tmp_path: Path, capsys: Any
) -> None:
    path = tmp_path / "logs" / "a.log"
    logs.begin(path)
    logging.getLogger("wsi_ncmi").info("one")
    logs.begin(path)  # the job runs again
    logging.getLogger("wsi_ncmi").info("two")
    logging.getLogger("wsi_ncmi").warning("three")
    assert texts(path) == ["INFO two", "WARNING three"]
    assert [line.split()[-1] for line in capsys.readouterr().err.splitlines()] == ["three"]


def test_the_slide_is_named_once(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    logs.begin(path)
    library = logging.getLogger("tifffile")
    with logs.about("slide s01"):
        library.warning("tag %d", 270)
        logging.getLogger("wsi_ncmi").info("slide s01: %d %%", 3)
    library.warning("the end")
    wanted = ["WARNING slide s01: tag 270", "INFO slide s01: 3 %", "WARNING the end"]
    assert texts(path) == wanted


def test_processes_of_a_pool_write_to_the_jobs_file(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    logs.begin(path)
    with process_pool(1, logs.joining()) as pool:
        pool.schedule(logging.warning, args=["from there"]).result()
        logging.info("from here")
    assert texts(path) == ["WARNING from there", "INFO from here"]
