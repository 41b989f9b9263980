"""Damaged slides, half a thousand in all: never a crash, a hang or gigabytes; always a status and a
reason. Every kind of damage is tried with one seed, and with three by `make test-all`.

To look at one: `python tests/robustness/fork_server.py FOLDER 3 CASE` leaves its slide, its log and
its report in FOLDER.
"""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

SERVER = Path(__file__).with_name("fork_server.py")
MEGABYTES = 400
Outcome = dict[str, Any]


@pytest.fixture(scope="module", params=[1, pytest.param(3, marks=pytest.mark.slow)])
def seeds(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def outcomes(seeds: int, tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    """What became of every case."""
    command = [sys.executable, str(SERVER), str(tmp_path_factory.mktemp("fuzz")), str(seeds)]
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=os.environ | threads, stdout=subprocess.PIPE, timeout=280)
    assert done.returncode == 0
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def reports(outcomes: list[Outcome]) -> dict[str, Outcome]:
    """Case -> report, of those that wrote one."""
    return {o["case"]: o["report"] for o in outcomes if "status" in o["report"]}


def test_there_are_enough_cases_and_all_ways_to_end(
    seeds: int, outcomes: list[Outcome], reports: dict[str, Outcome]
) -> None:
    assert len({o["case"] for o in outcomes}) == len(outcomes) >= 160 * seeds
    statuses = Counter(report["status"] for report in reports.values())
    assert min(statuses[status] for status in ("ok", "no_tissue", "unreadable")) >= 2
    assert sum(bool(report.get("invalid")) for report in reports.values()) >= 10 * seeds


def test_nothing_crashes_or_hangs(outcomes: list[Outcome]) -> None:
    """Exit -6 and -11 are crashes of a library, -14 is the end of the time allowed."""
    assert {o["case"]: o["exit"] for o in outcomes if o["exit"] != 0} == {}
    assert {o["case"]: o["report"]["error"] for o in outcomes if "error" in o["report"]} == {}
    assert {o["case"] for o in outcomes if not o["report"]} == set()


def test_memory_is_bounded(outcomes: list[Outcome], reports: dict[str, Outcome]) -> None:
    """What was allocated, and what was asked for and not granted."""
    assert {o["case"]: o["megabytes"] for o in outcomes if o["megabytes"] > MEGABYTES} == {}
    asked = re.compile("MemoryError|Unable to allocate")
    found = {case: r["reason"] for case, r in reports.items() if asked.search(r["reason"])}
    assert found == {}


def test_every_slide_has_a_status_and_the_others_a_reason(reports: dict[str, Outcome]) -> None:
    for case, report in reports.items():
        assert report["status"] in ("ok", "no_tissue", "unreadable", "unreachable"), case
        assert report["file_status"] == report["status"], case
        assert bool(report["reason"]) == (report["status"] != "ok"), case
        if report["status"].startswith("un"):
            assert re.search(r"slide\.svs: \w+", report["reason"]), (case, report["reason"])


def test_valid_and_invalid_tiles_are_all_tiles(reports: dict[str, Outcome]) -> None:
    for case, report in reports.items():
        assert report["file_tiles"] == report["tiles"], case
        assert (report["tiles"] > 0) == (report["status"] == "ok"), case
        if "rows" in report:
            assert report["rows"] == list(range(report["tiles"])), case
            assert {int(row) for row in report["invalid"]} <= set(report["rows"]), case
            assert all(report["invalid"].values()), case


def test_nothing_half_written_is_left(outcomes: list[Outcome]) -> None:
    assert {o["case"]: o["left"] for o in outcomes if o["left"]} == {}


def test_whole_slides_are_read_whole(reports: dict[str, Outcome]) -> None:
    """The limits, and not only the damage, would make slides unreadable."""
    whole = [report for case, report in reports.items() if case.endswith("-whole")]
    assert len(whole) >= 12
    for report in whole:
        assert (report["status"], report["invalid"]) == ("ok", {})


def test_damaged_tiles_cost_tiles_and_not_slides(reports: dict[str, Outcome]) -> None:
    """But where they are most of the overview: then there is a reason, and not "no tissue"."""
    damaged = {c: r for c, r in reports.items() if "-flipped_data-" in c or "-zeroed_tiles-" in c}
    assert sum(report["status"] == "ok" for report in damaged.values()) >= len(damaged) * 0.5
    lost = {c: r["reason"] for c, r in damaged.items() if r["status"] == "unreadable"}
    assert {c: reason for c, reason in lost.items() if "decode" not in reason} == {}
