"""Tables of annotated lesions: FROC and recall by size."""

import numpy as np
import pytest

from wsi_ncmi.evaluation.froc import NO_LESION, Detections
from wsi_ncmi.evaluation.lesion_tables import Judged, froc_table, size_table


def test_recall_by_the_size_of_the_largest_lesion() -> None:
    arm = "abmil", "ncmi"
    found = [
        Judged(*arm, detected=False, right=False, longest_um=150),
        Judged(*arm, detected=True, right=False, longest_um=200),
        Judged(*arm, detected=True, right=True, longest_um=201),
        Judged(*arm, detected=True, right=True, longest_um=2000.5),
        Judged(*arm, detected=False, right=True),  # no annotated lesion
    ]
    assert size_table(found).to_numpy().tolist() == [
        [*arm, "up to 0.2 mm", 2, 0.5, 0.0],
        [*arm, "0.2 to 2 mm", 1, 1.0, 1.0],
        [*arm, "over 2 mm", 1, 1.0, 1.0],
    ]


def test_froc_of_the_slides_whose_lesions_are_known() -> None:
    found = Detections(np.array([0.9, 0.5]), np.array([0, NO_LESION]), 1)
    rows = [
        Judged("abmil", "ncmi", True, True, found),
        Judged("abmil", "ncmi", False, True, Detections(np.empty(0), np.empty(0, np.int64), 0)),
        Judged("abmil", "ncmi", True, True),
        Judged("mean", "ncmi", True, True),
    ]
    (row,) = froc_table(rows).to_dict("records")
    assert (row["aggregator"], row["slides"], row["lesions"]) == ("abmil", 2, 1)
    assert row["score"] == pytest.approx(1)
