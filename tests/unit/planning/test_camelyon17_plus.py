"""config/camelyon17-plus.yaml, on a spreadsheet as CAMELYON+ publishes it: protocol P4."""

from pathlib import Path

import openpyxl
import yaml

from wsi_ncmi import config
from wsi_ncmi.bags.splits import make_splits
from wsi_ncmi.cohorts.camelyon17 import BUCKET, sheet_rows
from wsi_ncmi.cohorts.label_versions import read_labels
from wsi_ncmi.planning.problems import problems_of_cohort

ROOT = Path(__file__).resolve().parents[3]
LABELS = ("Negative", "ITC", "Micro", "Macro")


def spreadsheet(path: Path) -> Path:
    book = openpyxl.Workbook()
    book.active.append(("slide", "label"))
    book.active.append(("tumor_001", "Macro"))
    for patient in range(200):
        for node in range(5):
            book.active.append((f"patient_{patient:03d}_node_{node}", LABELS[(patient + node) % 4]))
    book.save(path)
    return path


def test_patients_0_to_99_train_and_100_to_199_are_tested(tmp_path: Path) -> None:
    raw = yaml.safe_load((ROOT / "config" / "camelyon17-plus.yaml").read_text())
    settings = config.parse(raw)
    rows = sheet_rows(read_labels(spreadsheet(tmp_path / "plus.xlsx"), "camelyon_plus"), BUCKET)
    assert problems_of_cohort(settings, rows, "sheet.tsv") == []
    for task in settings.tasks.values():
        splits = make_splits(rows, task, None)
        number = splits.patient_id.str.removeprefix("patient_").astype(int)
        assert set(splits.part[number >= 100]) == {"test"}
        assert set(splits.part[number < 100]) == {"train", "val"}
        assert len(splits) == 1000
    assert settings.tasks["metastasis"].classes == ["negative", "metastasis"]
