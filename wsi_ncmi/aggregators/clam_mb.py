"""CLAM with an attention branch for each class (Lu et al. 2021); `clam` has its equations."""

from wsi_ncmi.aggregators.clam import CLAM, RECIPE, Options
from wsi_ncmi.aggregators.interface import Aggregator

__all__ = ["RECIPE", "Options", "build"]


class MultiBranch(CLAM):
    """embedding = [z_1 … z_C]; class c is scored by w_c · z_c + b_c.

    That is cross-entropy with `blockwise: true`.
    """

    class_blocks = True

    def __init__(self, feature_dim: int, classes: int, options: Options) -> None:
        super().__init__(feature_dim, classes, options, branches=classes)


def build(feature_dim: int, classes: int, options: Options) -> Aggregator:
    return MultiBranch(feature_dim, classes, options)
