"""What is said when a run ends."""

import os
from pathlib import Path

from wsi_ncmi.tools.status.ending import LINES, SHOWN_JOBS, badly, well
from wsi_ncmi.tools.status.jobs import jobs

SINCE = 1_000_000.0
TIME = "2026-01-02 03:04:05,678"


def write(path: Path, text: str, at: float = SINCE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (at, at))
    return path


def test_where_the_report_is_and_how_much_is_not_in_it(tmp_path: Path) -> None:
    page = write(tmp_path / "report/index.html", "")
    assert well(tmp_path, SINCE) == f"The report: {page}"
    head = "slide_id\tstatus\treason\n"
    index = write(tmp_path / "cache/uni/index.tsv", f"{head}a\tok\t\nb\tmissing\tblank\n")
    write(tmp_path / "cache/virchow/index.tsv", f"{head}a\tok\t\nb\tok\t\n")
    for seed in (0, 1):
        rows = f"run_id\tstatus\nm{seed}\tok\nn{seed}\tfailed\n"
        write(tmp_path / f"runs/stage/seed-{seed}.tsv", rows)
    assert well(tmp_path, SINCE).split("\n")[1:] == [
        f"1 of 2 slides have no bag, for the reasons in {index}",
        f"2 of 4 models failed, for the reasons in {tmp_path}/runs/stage/seed-*.tsv",
    ]


def test_a_report_of_an_earlier_run_is_not_spoken_of(tmp_path: Path) -> None:
    assert well(tmp_path, SINCE) == ""
    write(tmp_path / "report/index.html", "", SINCE - 1)
    assert well(tmp_path, SINCE) == ""


def test_the_end_of_the_logs_of_this_runs_jobs_alone(tmp_path: Path) -> None:
    lines = [f"{TIME} INFO slide s{i}" for i in range(LINES)]
    log = write(tmp_path / "logs/tiles/bucket-3.log", "\n".join([*lines, f"{TIME} ERROR full\n"]))
    write(tmp_path / "logs/tiles/bucket-1.log", f"{TIME} ERROR of an earlier run\n", SINCE - 1)
    write(tmp_path / "logs/tiles/bucket-2.log", f"{TIME} INFO done\n")
    write(tmp_path / "benchmarks/tiles/bucket-2.tsv", "s\n1\n", SINCE + 1)
    index = write(tmp_path / "data-sets/abc/index.log", f"{TIME} INFO 7 images\n")
    said = badly(tmp_path, SINCE, [index.parent, tmp_path / "data-sets/unmade"]).split("\n")
    assert said == [
        f"tiles/bucket-3 did not end well. The last lines of {log}:",
        *(f"    {line}" for line in [*lines[1:], f"{TIME} ERROR full"]),
        f"image_index/abc did not end well. The last lines of {index}:",
        f"    {TIME} INFO 7 images",
        "The same command goes on from here: what is finished is kept.",
    ]


def test_of_many_failed_jobs_some_are_shown(tmp_path: Path) -> None:
    for number in range(SHOWN_JOBS + 2):
        write(tmp_path / f"logs/tiles/bucket-{number}.log", f"{TIME} ERROR full\n")
    said = badly(tmp_path, SINCE)
    assert said.count("did not end well") == SHOWN_JOBS
    assert "… and 2 more: wsi-ncmi status lists them" in said


def test_nothing_is_said_where_no_job_has_begun(tmp_path: Path) -> None:
    assert badly(tmp_path, SINCE) == ""


def test_a_traceback_is_an_error(tmp_path: Path) -> None:
    trace = "Traceback (most recent call last):\n  File\nValueError: 3"
    write(tmp_path / "logs/pack/a.log", f"{TIME} INFO x\n{TIME} ERROR unexpected\n{trace}\n")
    write(tmp_path / "logs/pack/b.log", f"{TIME} ERROR slide s1\n{trace}\n{TIME} INFO slide s2\n")
    found = [(job.state, job.last) for job in jobs(tmp_path, now=SINCE)]
    assert found == [("failed", "ValueError: 3"), ("running", "INFO slide s2")]
