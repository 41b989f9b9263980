"""How much features know the centre: the probe tells what is there, and no more."""

import numpy as np
import pandas as pd
import pytest

from wsi_ncmi.evaluation.centre_probe import (
    COLUMNS,
    FEWEST_PATIENTS,
    LABEL_ALONE,
    PROBE,
    ROBUSTNESS,
    absent,
    centre_probe,
    probed,
    robustness_index,
)

RESAMPLES, SEED, CONFIDENCE, DIM = 200, 0, 0.95, 16


def slides(centres=4, patients=20, nodes=5, label=lambda centre, rng: rng.choice(["a", "b"])):
    """A cohort as CAMELYON-17 is: each patient of one centre, with several slides."""
    rng = np.random.default_rng(5)
    rows = [
        (f"s{c}-{p}-{n}", f"p{c}-{p}", f"c{c}", label(c, rng))
        for c in range(centres)
        for p in range(patients)
        for n in range(nodes)
    ]
    return pd.DataFrame(rows, columns=["slide_id", "patient_id", "centre", "label"])


def noise(count, scale=1.0):
    return np.random.default_rng(7).normal(0, scale, (count, DIM)).astype(np.float32)


def measured(frame, means, **options):
    found = centre_probe(frame, means, RESAMPLES, SEED, CONFIDENCE, **options)
    assert list(found.columns) == COLUMNS
    return found.set_index("measure")


def of_centre(frame):
    return 8 * np.eye(DIM)[pd.factorize(frame["centre"])[0]]


def test_centres_that_stand_apart_are_told_apart():
    frame = slides()
    found = measured(frame, noise(len(frame)) + of_centre(frame))
    assert found.loc[PROBE, "value"] > 0.98
    assert found.loc[PROBE, "neutral"] == 0.25
    sizes = ["all_centres", "centres", "patients", "slides"]
    assert found.loc[PROBE, sizes].tolist() == [4, 4, 80, 400]
    low, high = found.loc[LABEL_ALONE, ["low", "high"]]
    assert low < 0.25 < high, "labels say nothing of the centre here"


def test_features_that_do_not_know_the_centre_are_at_chance():
    frame = slides()
    found = measured(frame, noise(len(frame)))
    assert found.loc[PROBE, "low"] < 0.25 < found.loc[PROBE, "high"]
    assert found.loc[PROBE, "value"] == pytest.approx(0.25, abs=0.06)


def test_what_is_of_the_patient_does_not_leak():
    """Features that name the patient alone: folds by slide would know the centre from them."""
    frame = slides(centres=2, patients=15)
    own = np.random.default_rng(3).normal(0, 10, (30, DIM))[pd.factorize(frame["patient_id"])[0]]
    found = measured(frame, own + noise(len(frame), 0.01))
    assert found.loc[PROBE, "low"] < 0.5 < found.loc[PROBE, "high"]
    # Patients are the unit: five slides of each alike make the interval no narrower.
    assert found.loc[PROBE, "high"] - found.loc[PROBE, "low"] > 0.2


def test_two_centres_that_are_two_classes():
    """Features that know the class alone: the label does as well, and the table says so."""
    frame = slides(centres=2, label=lambda centre, rng: "ab"[centre])
    found = measured(frame, noise(len(frame)) + of_centre(frame))
    assert found.loc[PROBE, "value"] > 0.98
    assert found.loc[LABEL_ALONE, "value"] == 1.0


def test_the_interval_is_the_patients():
    frame = slides(centres=2, patients=8)
    known = (frame["patient_id"].str.split("-").str[1].astype(int) < 4).to_numpy()
    means = noise(len(frame), 0.1) + of_centre(frame) * known[:, None]
    found = measured(frame, means).loc[PROBE]
    assert found["low"] < found["value"] < found["high"]


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (slides(centres=1), "found 1 of 1 centres"),
        (slides(patients=FEWEST_PATIENTS - 1), "found 0 of 4 centres"),
        (slides().assign(centre=""), "found 0 of 0 centres"),
    ],
)
def test_no_probe_has_a_reason(frame, told):
    kept, reason = probed(frame)
    assert kept.empty
    assert reason.startswith(told)
    (row,) = absent(frame, reason).to_dict("records")
    assert row["centres"] == 0
    assert np.isnan(row["value"])
    assert row["note"] == reason


def test_a_small_centre_is_left_out():
    frame = slides()
    small = (frame["centre"] == "c0") & ~frame["patient_id"].isin(["p0-0", "p0-1"])
    kept, reason = probed(frame[~small])
    assert not reason
    assert sorted(kept["centre"].unique()) == ["c1", "c2", "c3"]


def test_the_robustness_index_sees_centre_and_label():
    pytest.importorskip("croma")
    frame = slides()
    by_label = 8 * np.eye(DIM)[8 + pd.factorize(frame["label"])[0]]
    value, note = robustness_index(frame, noise(len(frame)) + of_centre(frame))
    assert value < 0.05
    assert "support" in note
    value, _ = robustness_index(frame, noise(len(frame)) + by_label)
    assert value > 0.95
    found = measured(frame, noise(len(frame)) + by_label, robustness=True)
    assert found.loc[ROBUSTNESS, "value"] == pytest.approx(value)
    value, note = robustness_index(frame.assign(label="a"), noise(len(frame)))
    assert np.isnan(value)
    assert note == "the slides have a single label"
