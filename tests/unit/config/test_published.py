"""Published values in the configuration: they name arms, and decide nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from wsi_ncmi.config import parse
from wsi_ncmi.errors import ConfigError

ONE = {"method": "ABMIL", "value": 0.522, "source": "a paper"}


def task_with(**keys: Any) -> dict[str, Any]:
    task = {"classes": ["itc", "macro"], "published": [{**ONE, **keys}]}
    tasks, labels = {"t": task}, ["negative", "micro"]
    return {"cohort": "c", "demo": {}, "ignore_labels": labels, "tasks": tasks}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            {"aggregators": ["clam"]},
            "published.0.aggregators: clam is no arm, expected some of abm",
        ),
        (
            {"objectives": ["ce"]},
            "published.0.objectives: ce is no arm, expected some of cros",
        ),
        ({"high": 0.5}, "high: found 0.5, expected more than value, 0.522"),
        ({"value": 52.2}, "published.0.value: Input should be less than or equal to 1, found 52.2"),
        ({"metric": "f1"}, "published.0.metric: Input should be 'macro_f1', 'accuracy'"),
        ({"metric": "quadratic_kappa"}, "published.0: quadratic_kappa needs ordinal: true"),
        ({"source": ""}, "published.0.source: String should have at least 1 character"),
    ],
)
def test_what_is_refused(keys: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(task_with(**keys))
    assert expected in str(error.value)


def test_p1_has_the_published_protocol(root: Path) -> None:
    """Centres 0-2 to 3-4, AdamW, 1e-4, 1e-5, 50 epochs, cosine, a bag per step (METHOD: ASMIL)."""
    schemas = json.loads((root / "workflow" / "schemas" / "parts.schema.json").read_text())
    raw = yaml.safe_load((root / "config" / "camelyon17-p1.yaml").read_text())
    task = parse(raw, schemas["preset"], schemas["objective_preset"]).tasks["p1"]
    assert task.classes == ["negative", "itc", "micro", "macro"]
    assert (task.protocol.kind, task.protocol.test_centres) == ("holdout_centres", ["3", "4"])
    assert task.protocol.validation_fraction == 0.1
    for aggregator in task.aggregators:
        last, chosen = (task.training_of(aggregator, o) for o in ("ncmi", "ncmi_chosen"))
        assert (last.optimiser, last.learning_rate, last.weight_decay) == ("adamw", 1e-4, 1e-5)
        assert (last.epochs, last.schedule, last.batch_size) == (50, "cosine", 1)
        assert (last.warmup_fraction, last.selection) == (0.0, "last")
        # Validation chooses among all epochs: it never ends the training.
        assert (chosen.selection, chosen.patience) == ("early_stopping", last.epochs)
    found = {one.aggregators[0]: one.value for one in task.published if one.aggregators}
    assert found == {
        "abmil": 0.522,
        "transmil": 0.554,
        "acmil": 0.562,
        "dtfd": 0.627,
        "aem": 0.647,
        "asmil": 0.689,
    }
    ncmi = task.published[-1]
    assert (ncmi.value, ncmi.high, ncmi.objectives) == (0.7, 0.75, ["ncmi", "ncmi_chosen"])
    assert ncmi.source.startswith("not reported, worked out")
