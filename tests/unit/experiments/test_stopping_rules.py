import numpy as np
import pandas as pd

from wsi_ncmi.evaluation.stopping import Stop
from wsi_ncmi.experiments.stopping_rules import LAST, LOSS, SATURATION, sentences, stops

INFORMATION = [1.0, 2.0, 2.6, 2.9, 2.95, 2.96, 2.97, 2.97]
HELD_OUT = [1.5, 0.9, 0.7, 0.65, 0.6, 0.62, 0.63, 0.7]


def curves(step=1):
    rows = []
    for place, (information, loss) in enumerate(zip(INFORMATION, HELD_OUT, strict=True)):
        shared = {"objective": "cross_entropy", "seed": 3, "epoch": step * (place + 1) - 1}
        shared |= {"label_entropy": 3.0}
        rows.append({**shared, "part": "train", "loss": 9.0, "label_prediction": information})
        rows.append({**shared, "part": "val", "loss": loss, "label_prediction": 0.0})
    return pd.DataFrame(rows)


def test_saturation_looks_at_training_images_and_the_loss_at_held_out_ones():
    found = stops(curves(), window=2, gain=0.05, patience=2)["cross_entropy", 3]
    # 2.95 − 2.6 = .35 is not below .05 · 3; 2.96 − 2.9 is.
    assert found == {SATURATION: Stop(5, 5), LOSS: Stop(6, 4), LAST: Stop(7, 7)}


def test_epochs_are_those_of_the_snapshots():
    found = stops(curves(step=5), window=2, gain=0.05, patience=2)["cross_entropy", 3]
    assert found == {SATURATION: Stop(29, 29), LOSS: Stop(34, 24), LAST: Stop(39, 39)}


def test_the_sentence_has_all_numbers():
    rows = [
        {"rule": SATURATION, "stopped": 5.0, "kept": 5.0, "accuracy": 0.85, "nll": 0.5},
        {"rule": LOSS, "stopped": 6.0, "kept": 4.0, "accuracy": 0.86, "nll": 0.45},
        {"rule": LAST, "stopped": 7.0, "kept": 7.0, "accuracy": 0.87, "nll": 0.6},
    ]
    table = pd.DataFrame(rows).assign(task="garments", objective="cross_entropy")
    for name, value in (("", -0.01), ("_low", -0.02), ("_high", 0.003)):
        table[f"accuracy_difference{name}"] = np.where(table["rule"] == LOSS, np.nan, value)
    (sentence,) = sentences(table)
    assert sentence == (
        "garments, cross-entropy: training stops at epoch 5.0 by the saturation of I(Y; Ŷ) and at "
        "6.0 by the held-out loss, which keeps epoch 4.0 (of 7); test accuracy 0.850 against "
        "0.860, −0.010 (−0.020 to 0.003), log-loss 0.500 against 0.450."
    )
