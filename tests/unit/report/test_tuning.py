"""How the report says what was trained and which weights are scored."""

from typing import Any

import pytest

from wsi_ncmi.config import Training
from wsi_ncmi.report.tuning import Tuning, choice_blocks, settings_table


def summary(*arms: dict[str, Any]) -> dict[str, Any]:
    rows = []
    for number, given in enumerate(arms):
        training = Training.model_validate(given).model_dump(mode="json")
        arm = {"aggregator": "abmil", "objective": f"arm{number}"}
        rows.append({**arm, "selection": training["selection"], "training": training})
        rows[-1]["searched"] = []
    names = [["abmil", row["objective"]] for row in rows]
    return {"settings": rows, "arms": names, "reference": "arm0"}


NOTHING = "No epoch was chosen: "
OWN = "on the validation part of the model's own fold, not on its test."


@pytest.mark.parametrize(
    ("selections", "words"),
    [
        (["last"], f"{NOTHING}the last one is scored."),
        (["averaged"], f"{NOTHING}the mean over the last half of them is scored."),
        (
            ["averaged", "last"],
            f"{NOTHING}the last one or the mean over the last half of them is scored.",
        ),
        (["early_stopping"], f"The scored epoch is the best {OWN}"),
        (["best_loss", "early_stopping"], f"The scored epoch is the best {OWN}"),
        (["best_loss", "last"], f"Where an epoch was chosen, it is the best {OWN}"),
    ],
)
def test_which_weights_are_scored(selections: list[str], words: str, tmp_path: Any) -> None:
    made = summary(*({"selection": selection} for selection in selections))
    block = choice_blocks(tmp_path, {"arm0": Tuning()}, made)[0]
    assert words in str(block)


def test_the_settings_of_each_arm() -> None:
    made = summary(
        {
            "selection": "best_loss",
            "optimiser": "sgd",
            "schedule": "constant",
            "learning_rate": 0.02,
            "epochs": 7,
        },
        {
            "selection": "averaged",
            "optimiser": "radam",
            "lookahead": True,
            "learning_rate": 0.0001,
            "batch_size": 3,
        },
    )
    table = settings_table({"arm0": Tuning(), "arm1": Tuning()}, made)
    assert [row[3:] for row in table.rows] == [
        [
            "of the epoch of the smallest log-loss on validation",
            "sgd, constant",
            "0.02",
            "7",
            "1",
        ],
        [
            "mean over the last half of the epochs",
            "radam with Lookahead, cosine",
            "0.0001",
            "50",
            "3",
        ],
    ]
