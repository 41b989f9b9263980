"""Published ways of a loss by name: options of a part, for those who do not want to list them.

In a configuration a preset's name stands where a part's does; `config.presets` writes it out. In
Python: `NCMI(dim, counts, Options(**PRESETS["ncmi_paper"].options))`. The plain name of a part
(`ncmi`) has the part's own defaults.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Preset(NamedTuple):
    """Options of a part.

    Attributes:
        part: name of the objective.
        options: by name; those that are not here are the part's defaults.
        source: where they are from.
    """

    part: str
    options: Mapping[str, Any]
    source: str


OF_BOTH: dict[str, Any] = {
    "temperature": 0.2,
    "learn_temperature": False,
    "reduction": "mean_of_ratios",
    "initial_centroids": "corners",
    "centroid_scale": 10.0,
    "map": "nsf",
    "prior": "empirical",
    "separation_weights": "uniform",
    "separation_direction": "kl_q_p",
    "space": "features",
}

PRESETS: dict[str, Preset] = {
    "ncmi_paper": Preset(
        "ncmi",
        {
            **OF_BOTH,
            "centroids": "learnable",
            "centroid_gradient": "ratio",
            "schedule": "alternating",
            "centroid_start_epoch": 0,
            "centre": "frozen",
            "class_mean_norm": "l2",
            "class_mean_samples": "plain",
        },
        "The paper, arXiv 2601.02543: learnt class distributions in a double minimisation, τ of "
        "its CIFAR-100 runs.",
    ),
    "ncmi_public_code": Preset(
        "ncmi",
        {
            **OF_BOTH,
            "centroids": "fixed",
            "centre": "ema",
            "centre_decay": 0.999999,
            "class_mean_norm": "l1",
            "class_mean_samples": "augmented",
        },
        "What github.com/Linfeng-Ye/NCMI (Cifar100/NCMI_gcenter.py) does: corners that get no "
        "gradient, a centre that hardly moves, and class means by `F.normalize(z − c, 1)`, which "
        "is L1, over the augmented training images. It has the best epoch on the test set, which "
        "nothing here does.",
    ),
}
