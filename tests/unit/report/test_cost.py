"""What the jobs took, from Snakemake's benchmarks."""

import os
from pathlib import Path

import pytest

from wsi_ncmi.report.cost import cost_section, measured

HEAD = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def write(path: Path, line: str, at: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEAD + line)
    os.utime(path, (at, at))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "benchmarks"
    write(folder / "train/xy/seed-0.tsv", "100\t0:01:40\t1500\t0\t0\t0\t0\t2\t99\t150\n", 30)
    write(folder / "train/xy/seed-1.tsv", "7400\t2:03:20\t900\t0\t0\t0\t1\t3\t99\t7350\n", 40)
    write(folder / "tiles/bucket-0.tsv", "0.1\t0:00:00\tNA\tNA\tNA\tNA\tNA\tNA\tNA\t0\n", 10)
    write(folder / "report.tsv", "5\t0:00:05\t300\t0\t0\t0\t0\t4\t99\t5\n", 50)
    return tmp_path


def test_a_row_for_each_rule_in_its_order(root: Path) -> None:
    (section,) = cost_section(root)
    total, table = section.blocks
    assert total.text == "2.1 h in 4 jobs, as if they ran one by one."
    assert [list(row) for row in table.rows] == [
        ["tiles", "1", "0 s", "0 s", "0.0", "–", "0 MB", "0 MB"],
        ["train", "2", "2.1 h", "2.1 h", "1.0", "1.5 GB", "1 MB", "5 MB"],
        ["report", "1", "5 s", "5 s", "1.0", "300 MB", "0 MB", "4 MB"],
    ]


def test_jobs_are_measured_one_by_one(root: Path) -> None:
    found = measured(root / "benchmarks").set_index("rule")
    assert found.loc["train", "s"].tolist() == [100, 7400]
    assert found["max_rss"].isna().tolist() == [True, False, False, False]


def test_without_benchmarks_there_is_no_section(tmp_path: Path) -> None:
    assert cost_section(tmp_path) == []
