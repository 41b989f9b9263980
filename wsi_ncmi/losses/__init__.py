"""Information-theoretic classification losses; importing this needs torch and nothing else."""

from wsi_ncmi.losses.cross_entropy import CrossEntropy
from wsi_ncmi.losses.ncmi import NCMI
from wsi_ncmi.losses.objective import LossOutput, Objective

__all__ = ["NCMI", "CrossEntropy", "LossOutput", "Objective"]
