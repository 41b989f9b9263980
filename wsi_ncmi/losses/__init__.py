"""Information-theoretic classification losses; importing this needs torch and nothing else."""

from wsi_ncmi.losses.centre_loss import CentreLoss
from wsi_ncmi.losses.cmic_dl import CMICDL
from wsi_ncmi.losses.cross_entropy import CrossEntropy
from wsi_ncmi.losses.cross_entropy_ncmi import CrossEntropyNCMI
from wsi_ncmi.losses.focal import Focal
from wsi_ncmi.losses.logit_adjusted import LogitAdjusted
from wsi_ncmi.losses.mr2 import MR2
from wsi_ncmi.losses.mutual_information import MutualInformation
from wsi_ncmi.losses.ncmi import NCMI
from wsi_ncmi.losses.ncmi_mixture import NCMIMixture
from wsi_ncmi.losses.objective import LossOutput, Objective, Phase
from wsi_ncmi.losses.opl import OrthogonalProjection
from wsi_ncmi.losses.poly1 import Poly1
from wsi_ncmi.losses.squentropy import Squentropy
from wsi_ncmi.losses.supcon import SupCon

__all__ = [
    "CMICDL",
    "MR2",
    "NCMI",
    "CentreLoss",
    "CrossEntropy",
    "CrossEntropyNCMI",
    "Focal",
    "LogitAdjusted",
    "LossOutput",
    "MutualInformation",
    "NCMIMixture",
    "Objective",
    "OrthogonalProjection",
    "Phase",
    "Poly1",
    "Squentropy",
    "SupCon",
]

# Modules that are no objectives (see `wsi_ncmi.registry`).
SHARED = frozenset(
    {
        "calibration",
        "centroids",
        "classifier",
        "distributed",
        "functional",
        "ncmi_base",
        "objective",
        "presets",
        "running",
        "temperature",
    }
)
